/** A real guest whose disk, and the base that it stands on, are in a datastore on a LUN. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BUILT_TOOL } from '../cli/session.ts';
import { requireGuestTools } from './guest.ts';
import { GuestPlace } from './guest-place.ts';
import { lifeOfAGuest } from './life-of-a-guest.ts';

/** A process that serves another disk of the datastore, and has its volume attached when nobody had. */
async function serveOther(place: GuestPlace): Promise<ChildProcess> {
  place.vimg('create', '-q', place.disk('other.vvd'), '64M');
  const args = [BUILT_TOOL, 'serve', place.disk('other.vvd'), '--socket', place.at('other.sock')];
  const server = spawn(process.execPath, args, {
    env: place.environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await Promise.race([once(server.stdout as NodeJS.ReadableStream, 'data'), once(server, 'exit')]);
  expect(server.exitCode).toBeNull();
  return server;
}

describe.skipIf(requireGuestTools())('a guest on a linked clone in a datastore on a LUN', () => {
  const guest = lifeOfAGuest(GuestPlace.onLun);

  it('works on when the process that has the volume is killed', async () => {
    const { place } = guest;
    await guest.kill();
    const other = await serveOther(place);
    try {
      const running = await guest.start('killed.vvd');
      await running.run('mount /dev/vda /mnt');
      await running.startCounting();
      const before = await running.counted(5);
      other.kill('SIGKILL');
      await once(other, 'exit');
      expect(await running.counted(before + 5)).toBeGreaterThan(before);
      expect(place.vimg('ls', 'ds1:')).toContain('killed.vvd');
      expect(readFileSync(join(running.folder, 'console.log'), 'latin1')).not.toContain('I/O error');
      const synced = await running.counted(1);
      const again = await guest.start('killed.vvd');
      await again.fileSystemIsClean();
      await again.run('mount /dev/vda /mnt');
      expect(Number(await again.run('cat /mnt/counter'))).toBeGreaterThanOrEqual(synced);
    } finally {
      other.kill('SIGKILL');
    }
  });

  it('leaves a datastore in which everything is sound', async () => {
    await guest.kill();
    const told = guest.place.vimg('datastore', 'check', 'ds1').trimEnd().split('\n');
    const disks = told.filter((line) => /^ds1:.*: sound$/.test(line));
    expect(disks).toEqual(expect.arrayContaining(['ds1:killed.vvd: sound', 'ds1:other.vvd: sound']));
    expect(told).toEqual(['ds1: sound', ...disks, `${disks.length} disks checked`]);
  });
});
