/** Deleting a snapshot on which a disk with blocks of another size stands: sub-blocks are filled from all layers. */
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { vvdLifecycle } from '../../../formats/vvd/lifecycle.ts';
import { linkedClone } from '../../../src/image/clone.ts';
import { createImage } from '../../../src/image/create-image.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { createSnapshot, deleteSnapshot } from '../../../src/image/snapshot.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 8 * MiB;

async function write(path: string, data: Buffer, offset: number): Promise<void> {
  await using disk = await DiskImage.open(path, { formats, readOnly: false });
  await disk.pwrite(data, offset);
}

async function content(path: string): Promise<Buffer> {
  await using disk = await DiskImage.open(path, { formats });
  const bytes = Buffer.alloc(SIZE);
  await disk.pread(bytes, 0);
  return bytes;
}

it.each([
  { way: 'down', block: 4 * MiB, written: 8 * KiB },
  { way: 'up', block: 64 * KiB, written: 100 },
])('$way, with blocks of $block bytes above blocks of 128 KiB', ({ way, block, written }) =>
  withDir(
    async ({ path: folder }) => {
      const base = join(folder, 'base.vvd');
      await createImage(base, { formats, format: 'vvd', size: SIZE });
      // `mid` holds little; what is around it lies in a layer that is not the next one behind
      await write(base, Buffer.alloc(SIZE, 'deep'), 0);
      await createSnapshot([base], 'deep', { formats });
      await createSnapshot([base], 'empty', { formats });
      await write(base, Buffer.alloc(100, 'mid'), 3 * MiB + 5000);
      await createSnapshot([base], 'mid', { formats });
      const clone = join(folder, 'clone.vvd');
      await linkedClone(base, clone, { formats, snapshot: 'mid', options: { block_size: block } });
      await vvdLifecycle.revertSnapshot(base, 'empty');
      await write(clone, Buffer.alloc(written, 'top'), 5 * MiB + 100);
      const before = await content(clone);
      expect((await deleteSnapshot(clone, 'mid', { formats })).way).toBe(way);
      expect((await content(clone)).equals(before)).toBe(true);
    },
    { unsafeCleanup: true, prefix: 'vimg-merge-' },
  ),
);
