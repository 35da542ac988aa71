/** Snapshots of several disks: across folders of one file system they happen at one instant, across two they are refused. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { createImage } from '../../../src/image/create-image.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { createSnapshot, listSnapshots } from '../../../src/image/snapshot.ts';
import { requireMount } from '../../reference-tools.ts';

const SIZE = 1024 * 1024;
const context = { formats };
let folder: string;
let cleanup: () => Promise<void>;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-volumes-' });
  folder = made.path;
  cleanup = made.cleanup;
  mkdirSync(join(folder, 'one'));
  mkdirSync(join(folder, 'two'));
});
afterEach(() => cleanup());

async function disksInBoth(): Promise<string[]> {
  const paths = ['one/a.vvd', 'two/b.vvd'].map((name) => join(folder, name));
  for (const path of paths) await createImage(path, { formats, format: 'vvd', size: SIZE });
  return paths;
}

async function writable(path: string): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  await disk.pwrite(new Uint8Array(512).fill(7), 0);
  await disk.close();
}

const names = (): string[][] => ['one', 'two'].map((name) => readdirSync(join(folder, name)).sort());

describe('a snapshot of disks in several folders', () => {
  it('is one of all of them on one file system', async () => {
    const paths = await disksInBoth();
    await createSnapshot(paths, 's', context);
    for (const path of paths) {
      expect((await listSnapshots(path, context)).map(({ name }) => name)).toEqual(['s']);
      await writable(path);
    }
    expect(names()).toEqual([
      ['a.vvd', 'a@s.vvd'],
      ['b.vvd', 'b@s.vvd'],
    ]);
  });

  it.skipIf(requireMount())('is refused across file systems, and nothing is changed', async () => {
    const mounted = join(folder, 'two');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', mounted]);
    try {
      const paths = await disksInBoth();
      for (const order of [paths, paths.toReversed()]) {
        await expect(createSnapshot(order, 's', context)).rejects.toMatchObject({
          code: 'UNSUPPORTED',
          path: order[1],
          hint: expect.stringContaining('take a snapshot of each'),
        });
      }
      expect(names()).toEqual([['a.vvd'], ['b.vvd']]);
      for (const path of paths) {
        await writable(path);
        await createSnapshot([path], 'own', context);
      }
      expect(names()).toEqual([
        ['a.vvd', 'a@own.vvd'],
        ['b.vvd', 'b@own.vvd'],
      ]);
    } finally {
      execFileSync('umount', [mounted]);
    }
  });
});
