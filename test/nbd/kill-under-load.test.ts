/**
 * kill -9 of `vimg serve` while fio and a client of ours write to a thin disk, both with flushes: what a flush covered
 * before the kill is there afterwards, and the disk is sound. Seeded; a few kills.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { checkVvd } from '../../formats/vvd/check.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { CMD_FLUSH, CMD_WRITE } from '../../src/nbd/protocol.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { requireTool } from '../reference-tools.ts';
import { RawClient } from './raw-client.ts';
import { MiB } from './served-device.ts';

const SIZE = 256 * MiB;
/** The client writes to the first part of the disk, fio to the rest. */
const OURS = 128 * MiB;
const BLOCK = 4096;
const BLOCKS = OURS / BLOCK;
const WRITES_PER_FLUSH = 24;

function stamped(round: number): Buffer {
  return Buffer.alloc(BLOCK, Buffer.from(Uint32Array.of(round).buffer));
}

/** Which rounds were written to each block, and which of them a flush covered. */
class Written {
  readonly latest = new Map<number, number>();
  readonly durable = new Map<number, number>();

  /** What the disk holds is at least as new as what was flushed, and nothing but what was written. */
  check(block: number, found: Buffer): string | undefined {
    const round = found.readUInt32LE(0);
    if (!found.equals(stamped(round))) return `block ${block} is torn`;
    const [oldest, newest] = [this.durable.get(block) ?? 0, this.latest.get(block) ?? 0];
    if (round >= oldest && round <= newest) return undefined;
    return `block ${block} holds round ${round}; flushed was ${oldest}, written ${newest}`;
  }
}

/** Writes and flushes until the server is gone. @param onFlushed told of every flush that was acknowledged */
async function writeUntilKilled(
  socketPath: string,
  random: SeededRandom,
  written: Written,
  onFlushed: (count: number) => void,
): Promise<void> {
  const client = await RawClient.connect({ socketPath });
  await client.enter({ structured: false });
  try {
    for (let round = 1; ; round++) {
      const blocks = new Set(Array.from({ length: WRITES_PER_FLUSH }, () => random.below(BLOCKS)));
      for (const block of blocks) {
        written.latest.set(block, round);
        client.sendRequest({ type: CMD_WRITE, offset: block * BLOCK, length: BLOCK, data: stamped(round) });
      }
      for (const _ of blocks) expect((await client.simpleReply()).error).toBe(0);
      expect(await client.ask({ type: CMD_FLUSH })).toBe(0);
      for (const block of blocks) written.durable.set(block, round);
      onFlushed(round);
    }
  } catch (error) {
    if (!(error instanceof Error && error.message === 'the server closed the connection')) throw error;
  } finally {
    client.close();
  }
}

function startFio(uri: string): { ended: Promise<unknown>; stop: () => void } {
  const fio = spawn(
    'fio',
    [
      ...['--name=load', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bs=4k', '--iodepth=16'],
      ...['--fsync=16', `--offset=${OURS}`, `--size=${SIZE - OURS}`, '--time_based', '--runtime=60'],
    ],
    { stdio: 'ignore' },
  );
  return { ended: once(fio, 'exit'), stop: () => fio.kill('SIGKILL') };
}

async function killOnce(path: string, folder: string, random: SeededRandom, written: Written): Promise<void> {
  const socketPath = join(folder, 'nbd.sock');
  const server = spawn(process.execPath, [BUILT_TOOL, 'serve', path, '--socket', socketPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(server, 'exit');
  await once(server.stdout, 'data');
  const fio = startFio(`nbd+unix:///?socket=${socketPath}`);
  const rounds = 5 + random.below(20);
  const later = random.below(12);
  await writeUntilKilled(socketPath, random, written, (count) => {
    // In the midst of what comes next: writes, a transaction, a flush.
    if (count === rounds) setTimeout(() => server.kill('SIGKILL'), later);
  });
  await exited;
  fio.stop();
  await fio.ended;
}

/** What check finds; a header copy that the kill tore is mended by the next write. */
async function corruptions(path: string): Promise<string[]> {
  const file = await FileDevice.open(path, { readOnly: true });
  try {
    const { findings } = await checkVvd(file);
    return findings
      .filter(({ severity, kind }) => severity === 'corruption' && kind !== 'header-copy')
      .map(({ message }) => message);
  } finally {
    await file.close();
  }
}

describe.skipIf(requireTool('fio'))('kill -9 under load', () => {
  it.each([1, 2, 3])('every acknowledged flush is there, seed %i', (seed) =>
    withDir(
      async ({ path: folder }) => {
        const random = new SeededRandom(seed);
        const path = join(folder, 'disk.vvd');
        await createImage(path, { formats, format: 'vvd', size: SIZE });
        const written = new Written();
        await killOnce(path, folder, random, written);
        expect(written.durable.size).toBeGreaterThan(0);
        expect(await corruptions(path)).toEqual([]);
        const disk = await DiskImage.open(path, { formats, readOnly: false });
        const found = Buffer.alloc(BLOCK);
        for (const block of written.latest.keys()) {
          await disk.pread(found, block * BLOCK);
          expect(written.check(block, found)).toBeUndefined();
        }
        await disk.close();
        expect(await corruptions(path)).toEqual([]);
      },
      { unsafeCleanup: true, prefix: 'vimg-kill' },
    ),
  );
});
