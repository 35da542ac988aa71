/**
 * kill -9 of a server in the middle of a snapshot, or of the deletion of one, that another process asked it for: it
 * happened or it did not, and what a flush acknowledged is there in either case. VIMG_KILL_ROUNDS sets how often.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { withDir } from 'tmp-promise';
import { expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import {
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
  openImage,
} from '../../src/index.ts';
import { CMD_FLUSH, CMD_WRITE } from '../../src/nbd/protocol.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { RawClient } from '../nbd/raw-client.ts';

const MiB = 1024 * 1024;
const BLOCK = 4096;
const rounds = Number(process.env['VIMG_KILL_ROUNDS'] ?? 6);
const random = new SeededRandom(Number(process.env['VIMG_KILL_SEED'] ?? 1));

function run(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [BUILT_TOOL, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)));
}

/** Writes rounds into one block after the other, flushing each, until the server is gone. @returns what was flushed */
async function writeOn(client: RawClient): Promise<Map<number, number>> {
  const durable = new Map<number, number>();
  try {
    for (let round = 1; ; round++) {
      const offset = ((round * 7) % 50) * 64 * 1024;
      const data = Buffer.alloc(BLOCK);
      data.writeUInt32LE(round);
      if ((await client.ask({ type: CMD_WRITE, offset, length: BLOCK, data })) !== 0) return durable;
      if ((await client.ask({ type: CMD_FLUSH })) !== 0) return durable;
      durable.set(offset, round);
    }
  } catch {
    return durable; // the server is gone
  }
}

/** Opens a disk for writing, and closes it. */
async function writable(
  path: string,
  work: (disk: Awaited<ReturnType<typeof openImage>>) => void | Promise<void>,
): Promise<void> {
  await using disk = await openImage(path, { readOnly: false });
  await work(disk);
}

it('kill -9 of a server in a snapshot: before or after, and every flush is there', async () => {
  let taken = 0;
  for (let round = 0; round < rounds; round++) {
    await withDir(
      async ({ path }) => {
        const disks = [join(path, 'a.vvd'), join(path, 'b.vvd')];
        for (const disk of disks) await createImage(disk, { format: 'vvd', size: 16 * MiB });
        const socketPath = join(path, 'nbd.sock');
        const server = run('serve', ...disks, '--name', 'a', '--name', 'b', '--socket', socketPath);
        const gone = ended(server);
        await new Promise((resolve) => server.stdout?.once('data', resolve));
        const client = await RawClient.connect({ socketPath });
        await client.enter({ structured: false, name: 'a' });
        const writing = writeOn(client);
        const asking = run('snapshot', '-c', 'one', ...disks);
        const asked = ended(asking);
        await delay(250 + random.below(250));
        server.kill('SIGKILL');
        await gone;
        client.socket.destroy();
        const durable = await writing;
        const status = await asked;
        expect(durable.size).toBeGreaterThan(0);
        for (const disk of disks) await (await openImage(disk, { readOnly: false })).close();
        const names = (await Promise.all(disks.map((disk) => listSnapshots(disk)))).map(
          (list) => list.length,
        );
        expect([0, 1]).toContain(names[0]);
        expect(names[1]).toBe(names[0]);
        if (status === 0) expect(names[0]).toBe(1);
        taken += names[0] as number;
        await using disk = await openImage(disks[0] as string);
        for (const [offset, value] of durable) {
          const data = Buffer.alloc(4);
          await disk.pread(data, offset);
          expect(data.readUInt32LE()).toBeGreaterThanOrEqual(value);
        }
        for (const name of readdirSync(path).filter((each) => each.endsWith('.vvd'))) {
          expect((await checkImage(join(path, name))).findings).toEqual([]);
        }
      },
      { unsafeCleanup: true, prefix: 'vimg-served-kill' },
    );
  }
  console.log(`${taken} of ${rounds} snapshots happened`);
});

const deletions = [
  ['the newest snapshot', [], 'a.vvd'],
  ['the oldest of three', ['two', 'three'], 'a@two.vvd'],
] as const;
it.each(deletions)('kill -9 of a server that deletes %s: every flush is there', async (_, newer, above) => {
  let deleted = 0;
  for (let round = 0; round < rounds; round++) {
    await withDir(
      async ({ path }) => {
        const disk = join(path, 'a.vvd');
        await createImage(disk, { format: 'vvd', size: 64 * MiB });
        await writable(disk, (open) => open.pwrite(Buffer.alloc(48 * MiB, 'kept'), 0));
        await createSnapshot(disk, 'one');
        for (const name of newer) await createSnapshot(disk, name);
        const socketPath = join(path, 'nbd.sock');
        const server = run('serve', disk, '--socket', socketPath);
        const gone = ended(server);
        await new Promise((resolve) => server.stdout?.once('data', resolve));
        const client = await RawClient.connect({ socketPath });
        await client.enter({ structured: false });
        const writing = writeOn(client);
        const asking = run('snapshot', '-d', 'one', disk);
        const asked = ended(asking);
        const growing = join(path, above);
        const copied = statSync(growing).size + random.below(56 * MiB);
        while (statSync(growing).size < copied && asking.exitCode === null) await delay(1);
        server.kill('SIGKILL');
        await gone;
        client.socket.destroy();
        const durable = await writing;
        const status = await asked;
        expect(durable.size).toBeGreaterThan(0);
        await writable(disk, () => undefined); // settles what was left
        const left = await listSnapshots(disk);
        if (status === 0) expect(left.map(({ name }) => name)).toEqual(newer);
        const check = async (): Promise<void> => {
          await using open = await openImage(disk);
          const block = Buffer.alloc(BLOCK);
          for (let at = 0; at < 48 * MiB; at += BLOCK) {
            await open.pread(block, at);
            const flushed = durable.get(at);
            if (flushed !== undefined) expect(block.readUInt32LE()).toBeGreaterThanOrEqual(flushed);
            else if (at % (64 * 1024) !== 0 || at >= 50 * 64 * 1024)
              expect(block.toString('latin1', 0, 4)).toBe('kept');
          }
          for (const name of readdirSync(path).filter((each) => each.endsWith('.vvd'))) {
            expect((await checkImage(join(path, name))).findings).toEqual([]);
          }
        };
        await check();
        if (left.length > newer.length) await deleteSnapshot(disk, 'one');
        else deleted++;
        await check();
      },
      { unsafeCleanup: true, prefix: 'vimg-served-kill' },
    );
  }
  console.log(`${deleted} of ${rounds} deletions happened`);
});
