/** What is counted of a disk's caches, by each of them; and that nothing is forgotten when layers come and go. */
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { deleteOpenSnapshot, snapshotOpenDisks } from '../../src/image/open-disks.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
/** Guest bytes that one table page of the default block size maps, and more. */
const TABLE_SPAN = 128 * KiB * 256;

function withDisk(work: (path: string) => Promise<void>): Promise<void> {
  return withDir(
    async ({ path: folder }) => {
      const path = join(folder, 'disk.vvd');
      await createImage(path, { formats, format: 'vvd', size: 2 * TABLE_SPAN });
      await work(path);
    },
    { unsafeCleanup: true, prefix: 'vimg-caches-' },
  );
}

async function read(disk: DiskImage, offset: number, length = 4096): Promise<void> {
  await disk.pread(new Uint8Array(length), offset);
}

it('reads from files, by whether they were answered in the same tick', () =>
  withDisk(async (path) => {
    await using disk = await DiskImage.open(path, { formats, readOnly: false });
    await disk.pwrite(Buffer.alloc(2 * MiB, 'x'), 0);
    const before = { ...disk.caches.data };
    for (let i = 0; i < 5; i++) await read(disk, i * 4096);
    expect(disk.caches.data).toEqual({ hits: before.hits + 5, misses: before.misses });
    await read(disk, TABLE_SPAN); // zeroes are read from nowhere
    expect(disk.caches.data.hits).toBe(before.hits + 5);
    const { file } = disk.top;
    const pread = file.pread.bind(file);
    file.pread = async (buffer, offset) => {
      await pread(buffer, offset);
    };
    await read(disk, 0);
    expect(disk.caches.data).toEqual({ hits: before.hits + 5, misses: before.misses + 1 });
  }));

it('table pages: read once, then in memory', () =>
  withDisk(async (path) => {
    {
      await using disk = await DiskImage.open(path, { formats, readOnly: false });
      for (const offset of [0, TABLE_SPAN]) await disk.pwrite(Buffer.from('x'), offset);
    }
    await using disk = await DiskImage.open(path, { formats });
    await read(disk, 0);
    await read(disk, TABLE_SPAN);
    const loaded = disk.caches.toJSON().metadata;
    expect(loaded.misses).toBeGreaterThanOrEqual(2); // or when it was opened
    for (let i = 0; i < 10; i++) await read(disk, 0);
    const { hits, misses } = disk.caches.toJSON().metadata;
    expect([hits - loaded.hits, misses - loaded.misses]).toEqual([10, 0]);
  }));

it('compressed blocks: decompressed once', () =>
  withDisk(async (path) => {
    await using disk = await DiskImage.open(path, { formats, readOnly: false });
    await disk.writeCompressed(0, Buffer.alloc(128 * KiB, 'compressible'));
    for (let i = 0; i < 4; i++) await read(disk, i * 4096);
    expect(disk.caches.decompressed).toEqual({ hits: 3, misses: 1 });
    expect(disk.caches.data).toEqual({ hits: 0, misses: 0 });
  }));

it('counts only rise when layers come and go', () =>
  withDisk(async (path) => {
    await using disk = await DiskImage.open(path, { formats, readOnly: false });
    await disk.pwrite(Buffer.from('x'), 0);
    for (let i = 0; i < 10; i++) await read(disk, 0);
    const first = disk.caches.toJSON().metadata;
    await snapshotOpenDisks([disk], [], 'one', formats);
    await read(disk, 0);
    const second = disk.caches.toJSON().metadata;
    await deleteOpenSnapshot(disk, 'one', formats);
    const third = disk.caches.toJSON().metadata;
    expect(first.hits).toBeGreaterThanOrEqual(10);
    expect(second.hits).toBeGreaterThan(first.hits);
    expect(third.hits).toBeGreaterThanOrEqual(second.hits);
  }));
