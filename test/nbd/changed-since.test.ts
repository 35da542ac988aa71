/** `vimg:changed-since:NAME`: nothing that changed is told as unchanged, whatever became of the disk and its snapshots. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { deleteOpenSnapshot, snapshotOpenDisks } from '../../src/image/open-disks.ts';
import { createSnapshot, deleteSnapshot, revertSnapshot } from '../../src/image/snapshot.ts';
import { exportDisk } from '../../src/nbd/export.ts';
import { CMD_BLOCK_STATUS, CMD_WRITE, OPT_LIST_META_CONTEXT } from '../../src/nbd/protocol.ts';
import { requireTool } from '../reference-tools.ts';
import { contextData, type RawClient } from './raw-client.ts';
import { filled, MiB, withServer } from './served-device.ts';

const CHANGED_SINCE = 'vimg:changed-since:';
const context = { formats };
const BLOCK = 4096;

async function withDisk(size: number, work: (path: string) => Promise<void>): Promise<void> {
  await withDir(
    async ({ path }) => {
      const disk = join(path, 'disk.vvd');
      await createImage(disk, { formats, format: 'vvd', size });
      await work(disk);
    },
    { unsafeCleanup: true, prefix: 'vimg-changed' },
  );
}

async function changing(path: string, work: (disk: DiskImage) => Promise<void>): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  try {
    await work(disk);
  } finally {
    await disk.close();
  }
}

function serveDisk(
  disk: DiskImage,
  work: (connect: () => Promise<RawClient>) => Promise<void>,
): Promise<void> {
  return withServer([exportDisk(disk, '')], ({ connect }) => work(connect));
}

/** One flag for each block of the disk: whether the server says that it changed. */
async function changedBlocks(client: RawClient, size: number): Promise<boolean[]> {
  const blocks: boolean[] = [];
  for (let at = 0; at < size; ) {
    const [chunk] = await client.chunks({ type: CMD_BLOCK_STATUS, offset: at, length: size - at });
    const { payload } = chunk as { payload: Buffer };
    for (let entry = 4; entry < payload.length; entry += 8) {
      const length = payload.readUInt32BE(entry);
      for (let block = Math.floor(at / BLOCK); block < (at + length) / BLOCK; block++) {
        blocks[block] = (blocks[block] ?? false) || payload.readUInt32BE(entry + 4) === 1;
      }
      at += length;
    }
  }
  return blocks;
}

async function contentOf(path: string, snapshot?: string): Promise<Buffer> {
  const disk = await DiskImage.open(path, { formats, snapshot });
  const content = Buffer.alloc(disk.size);
  await disk.pread(content, 0);
  await disk.close();
  return content;
}

describe('vimg:changed-since', () => {
  it('is listed for each snapshot, and answers by layers', () =>
    withDisk(MiB, async (path) => {
      await changing(path, async (disk) => disk.pwrite(filled(65_536, 1), 0));
      await createSnapshot([path], 'first', context);
      await changing(path, async (disk) => disk.pwrite(filled(4096, 2), 131_072));
      await createSnapshot([path], 'second', context);
      await changing(path, (disk) =>
        serveDisk(disk, async (connect) => {
          const asking = await connect();
          await asking.greet();
          const replies = await asking.option(OPT_LIST_META_CONTEXT, contextData('', ['vimg:']));
          const names = replies.slice(0, -1).map(({ data }) => data.toString('utf8', 4));
          expect(names).toEqual([`${CHANGED_SINCE}second`, `${CHANGED_SINCE}first`]);
          const client = await connect();
          await client.enter({ contexts: [`${CHANGED_SINCE}second`] });
          expect((await changedBlocks(client, MiB)).includes(true)).toBe(false);
          await client.ask({ type: CMD_WRITE, offset: 8192, length: 512, data: filled(512, 3) });
          const since = await changedBlocks(client, MiB);
          expect(since.flatMap((changed, block) => (changed ? block : []))).toEqual([2]);
          const older = await connect();
          await older.enter({ contexts: [`${CHANGED_SINCE}first`] });
          const all = await changedBlocks(older, MiB);
          expect(all.flatMap((changed, block) => (changed ? block : []))).toEqual([2, 32]);
        }),
      );
    }));

  it('a disk that grew: what the snapshot did not reach has changed', () =>
    withDisk(MiB, async (path) => {
      await createSnapshot([path], 'small', context);
      await changing(path, (disk) =>
        serveDisk(disk, async (connect) => {
          await disk.resize(2 * MiB);
          const client = await connect();
          await client.enter({ contexts: [`${CHANGED_SINCE}small`] });
          const blocks = await changedBlocks(client, 2 * MiB);
          expect(blocks.indexOf(true)).toBe(256);
          expect(blocks.slice(256).every((changed) => changed)).toBe(true);
        }),
      );
    }));

  it('a snapshot taken while the disk is served: the others go on, new clients find it', () =>
    withDisk(MiB, async (path) => {
      await createSnapshot([path], 'first', context);
      await changing(path, (disk) =>
        serveDisk(disk, async (connect) => {
          const old = await connect();
          await old.enter({ contexts: [`${CHANGED_SINCE}first`] });
          await old.ask({ type: CMD_WRITE, offset: 0, length: 4096, data: filled(4096, 1) });
          await snapshotOpenDisks([disk], [], 'second', formats);
          await old.ask({ type: CMD_WRITE, offset: 8192, length: 4096, data: filled(4096, 2) });
          const changed = async (client: RawClient): Promise<number[]> =>
            (await changedBlocks(client, MiB)).flatMap((each, block) => (each ? block : []));
          expect(await changed(old)).toEqual([0, 2]);
          const late = await connect();
          await late.enter({ contexts: [`${CHANGED_SINCE}second`] });
          expect(await changed(late)).toEqual([2]);
        }),
      );
    }));

  it('a snapshot deleted while the disk is served: the others go on, and tell of nothing less', () =>
    withDisk(MiB, async (path) => {
      const names = ['first', 'second', 'third', 'fourth'];
      for (const [step, name] of names.entries()) {
        await changing(path, async (disk) => disk.pwrite(filled(4096, step + 1), step * 8192));
        await createSnapshot([path], name, context);
      }
      await changing(path, (disk) =>
        serveDisk(disk, async (connect) => {
          const clients = new Map<string, RawClient>();
          for (const name of names) {
            const client = await connect();
            await client.enter({ contexts: [CHANGED_SINCE + name] });
            clients.set(name, client);
          }
          const changed = async (name: string): Promise<number[]> =>
            (await changedBlocks(clients.get(name) as RawClient, MiB)).flatMap((each, at) =>
              each ? at : [],
            );
          const expected = { first: [2, 4, 6], second: [4, 6], third: [6], fourth: [] };
          for (const [name, blocks] of Object.entries(expected)) expect(await changed(name)).toEqual(blocks);
          const everything = Array.from({ length: MiB / BLOCK }, (_, block) => block);
          for (const name of ['second', 'first']) {
            const deleting = deleteOpenSnapshot(disk, name, formats);
            expect(await changed('third')).toEqual([6]);
            await deleting;
            expect(await changed(name)).toEqual(everything);
          }
          expect(await changed('third')).toEqual([6]);
          expect(await changed('fourth')).toEqual([]);
        }),
      );
    }));

  it.each([1, 2, 3, 4, 5, 6])('never calls unchanged what changed, seed %i', (seed) =>
    withDisk(2 * MiB, async (path) => {
      const random = new SeededRandom(seed);
      const names = new Set<string>();
      for (let step = 0; step < 14; step++) await changeSomehow(path, random, names, step);
      const now = await contentOf(path);
      const disk = await DiskImage.open(path, { formats });
      try {
        await serveDisk(disk, async (connect) => {
          for (const name of disk.snapshots) {
            const then = await contentOf(path, name);
            const client = await connect();
            await client.enter({ contexts: [CHANGED_SINCE + name] });
            const blocks = await changedBlocks(client, disk.size);
            for (const [block, changed] of blocks.entries()) {
              const [from, to] = [block * BLOCK, (block + 1) * BLOCK];
              const same = now.subarray(from, to).equals(then.subarray(from, to));
              if (!changed && !same) expect.fail(`block ${block} changed since ${name}`);
            }
          }
        });
      } finally {
        await disk.close();
      }
    }),
  );
});

/** Writes, zeroes, discards, another size, a snapshot, a snapshot less, a way back. */
async function changeSomehow(
  path: string,
  random: SeededRandom,
  names: Set<string>,
  step: number,
): Promise<void> {
  const some = [...names][random.below(Math.max(1, names.size))];
  const choice = random.below(10);
  if (choice < 2) {
    names.add(`s${step}`);
    await createSnapshot([path], `s${step}`, context);
  } else if (choice === 2 && some !== undefined) {
    names.delete(some);
    await deleteSnapshot(path, some, context).catch(() => names.add(some)); // another stands on it since a revert
  } else if (choice === 3 && some !== undefined) {
    await revertSnapshot(path, some, context);
  } else if (choice === 4) {
    await changing(path, (disk) => disk.resize(MiB + random.below(8) * 256 * 1024));
  } else {
    await changing(path, async (disk) => {
      for (let i = 0; i < 4; i++) {
        const offset = random.below(disk.size - 70_000);
        const length = 1 + random.below(70_000);
        const way = random.below(4);
        if (way === 0) await disk.writeZeroes(offset, length);
        else if (way === 1) await disk.discard(offset, length);
        else await disk.pwrite(random.bytes(length), offset);
      }
    });
  }
}

describe.skipIf(requireTool('nbdinfo'))('nbdinfo', () => {
  it('maps what changed', () =>
    withDisk(MiB, async (path) => {
      await createSnapshot([path], 'a', context);
      await changing(path, async (disk) => {
        await disk.pwrite(filled(4096, 1), 65_536);
        await withServer([exportDisk(disk, '')], async ({ server }) => {
          const { stdout } = await promisify(execFile)('nbdinfo', [
            '--json',
            `--map=${CHANGED_SINCE}a`,
            server.uri(''),
          ]);
          const extents = (JSON.parse(stdout) as { offset: number; length: number; type: number }[]).map(
            ({ offset, length, type }) => [offset, length, type],
          );
          expect(extents).toEqual([
            [0, 65_536, 0],
            [65_536, 4096, 1],
            [69_632, MiB - 69_632, 0],
          ]);
        });
      });
    }));
});
