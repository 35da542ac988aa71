/** Growing past what the table directory has room for: it moves, and its new place is never given to anything else. */
import { describe, expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';

const GiB = 2 ** 30;
const BLOCK = 64 * 1024;

async function open(file: MemoryDevice): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly: false, gate: closedGate })]);
}

/** A disk whose directory lies among the blocks, because it grew. */
async function grownDisk(file: MemoryDevice): Promise<number> {
  await createVvd(file, { virtualSize: GiB, options: { block_size: BLOCK }, gate: closedGate });
  const before = await readHeader(file);
  const disk = await open(file);
  await disk.pwrite(new Uint8Array(BLOCK).fill(1), 0);
  await disk.resize(64 * GiB);
  await disk.close();
  const { directoryOffset } = await readHeader(file);
  expect(directoryOffset).toBeGreaterThan(before.directoryOffset);
  return directoryOffset;
}

describe('a disk that is too large', () => {
  it.each([8192 * 1024 * GiB, 2 ** 60])('is refused at %i bytes', async (virtualSize) => {
    const making = createVvd(MemoryDevice.create(0), { virtualSize, options: {}, gate: closedGate });
    await expect(making).rejects.toMatchObject({ code: 'LIMIT' });
  });
});

describe('a disk that grew past the room of its directory', () => {
  it('keeps the directory when blocks are written after a reopen', async () => {
    const file = MemoryDevice.create(0);
    await grownDisk(file);
    let disk = await open(file);
    for (let block = 1; block < 200; block++) {
      await disk.pwrite(new Uint8Array(BLOCK).fill(block), block * BLOCK);
    }
    await disk.close();
    disk = await open(file);
    const seen = new Uint8Array(BLOCK);
    for (let block = 1; block < 200; block++) {
      await disk.pread(seen, block * BLOCK);
      expect(seen.every((byte) => byte === block)).toBe(true);
    }
    await disk.close();
  });

  it('keeps the directory when a crash follows', async () => {
    const file = MemoryDevice.create(0);
    await grownDisk(file);
    const disk = await open(file);
    await disk.pwrite(new Uint8Array(BLOCK).fill(9), 40 * GiB);
    await disk.flush();
    const crashed = file.fork();
    await disk.close();
    const again = await open(crashed);
    const seen = new Uint8Array(BLOCK);
    await again.pread(seen, 40 * GiB);
    expect(seen.every((byte) => byte === 9)).toBe(true);
    await again.close();
  });
});

describe('a disk that grew after it gave blocks back', () => {
  it('does not give the place of its directory away as free', async () => {
    const file = MemoryDevice.create(0);
    await createVvd(file, { virtualSize: GiB, options: { block_size: BLOCK }, gate: closedGate });
    let disk = await open(file);
    await disk.pwrite(new Uint8Array(64 * BLOCK).fill(1), 0);
    await disk.flush();
    await disk.writeZeroes(BLOCK, 63 * BLOCK);
    await disk.flush(); // from here on the list on disk calls the last blocks free, and the file ends before them
    await disk.resize(64 * GiB);
    await disk.close();
    disk = await open(file);
    for (let block = 1; block < 64; block++) {
      await disk.pwrite(new Uint8Array(BLOCK).fill(block), block * BLOCK);
    }
    await disk.close();
    disk = await open(file);
    const seen = new Uint8Array(BLOCK);
    for (let block = 1; block < 64; block++) {
      await disk.pread(seen, block * BLOCK);
      expect(seen.every((byte) => byte === block)).toBe(true);
    }
    await disk.close();
  });
});

describe('a disk that shrank', () => {
  it('reads zeroes where it grows again, also after a reopen', async () => {
    const file = MemoryDevice.create(0);
    await createVvd(file, { virtualSize: 64 * BLOCK, options: { block_size: BLOCK }, gate: closedGate });
    let disk = await open(file);
    await disk.pwrite(new Uint8Array(64 * BLOCK).fill(1), 0);
    await disk.resize(3 * BLOCK + 512);
    await disk.close();
    disk = await open(file);
    await disk.resize(64 * BLOCK);
    const seen = new Uint8Array(64 * BLOCK);
    await disk.pread(seen, 0);
    expect(seen.indexOf(0)).toBe(3 * BLOCK + 512);
    expect(seen.subarray(3 * BLOCK + 512).every((byte) => byte === 0)).toBe(true);
    await disk.close();
  });
});
