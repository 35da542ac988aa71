/** Growing past what the table directory has room for: it moves, and its new place is never given to anything else. */
import { describe, expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';
import { ShuffleDevice } from '../../../src/testing/index.ts';

const GiB = 2 ** 30;
const BLOCK = 64 * 1024;

async function open(file: BlockDevice): Promise<DiskImage> {
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

describe('a disk that grew again after its directory moved', () => {
  it('opens, although nothing was written to the new pages', async () => {
    const file = MemoryDevice.create(0);
    await grownDisk(file);
    for (const size of [70 * GiB, 90 * GiB]) {
      const disk = await open(file);
      await disk.resize(size);
      await disk.close();
      const again = await open(file);
      expect(again.size).toBe(size);
      await again.close();
    }
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

describe('a resize that fails', () => {
  const sizes = [
    ['shrinks', 3 * BLOCK + 512],
    ['grows', 200 * BLOCK],
    ['grows past the room of its directory', 64 * GiB],
  ] as const;
  const faults = Array.from(
    { length: 24 },
    (_, i) => ({ on: i % 3 === 0 ? 'flush' : 'write', at: 1 + i }) as const,
  );

  it.each(sizes)('when it %s leaves the old size or the new one, and what was flushed', async (_, size) => {
    for (const fault of faults) {
      const memory = MemoryDevice.create(0);
      await createVvd(memory, { virtualSize: 64 * BLOCK, options: { block_size: BLOCK }, gate: closedGate });
      const file = new FaultDevice(memory);
      const disk = await open(file);
      await disk.pwrite(new Uint8Array(63 * BLOCK).fill(1), 0);
      await disk.flush();
      file.add(fault);
      const failed = await disk.resize(size).catch((error: unknown) => error);
      const write = async () => disk.pwrite(new Uint8Array(BLOCK).fill(2), 63 * BLOCK);
      const wrote = await write().then(
        () => true,
        () => false,
      );
      const closed = await disk.close().then(
        () => true,
        () => false,
      );
      const again = await open(memory);
      const what = `fault at ${fault.on} ${fault.at}`;
      if (failed === undefined) expect(again.size, what).toBe(size);
      expect([64 * BLOCK, size], what).toContain(again.size);
      const kept = Math.min(again.size, 63 * BLOCK);
      await again.resize(64 * BLOCK);
      const seen = new Uint8Array(64 * BLOCK);
      await again.pread(seen, 0);
      expect(
        seen.subarray(0, kept).every((byte) => byte === 1),
        what,
      ).toBe(true);
      expect(
        seen.subarray(kept, 63 * BLOCK).every((byte) => byte === 0),
        what,
      ).toBe(true);
      const last = seen.subarray(63 * BLOCK);
      if (wrote && closed)
        expect(
          last.every((byte) => byte === 2),
          what,
        ).toBe(true);
      await again.close();
    }
  });
});

describe('a resize among other operations', () => {
  it.each(Array.from({ length: 10 }, (_, i) => i))(
    'waits for them, and they for it (order %i)',
    async (seed) => {
      const memory = MemoryDevice.create(0);
      await createVvd(memory, { virtualSize: GiB, options: { block_size: BLOCK }, gate: closedGate });
      const disk = await open(new ShuffleDevice(memory, seed, { sameTickOneIn: 3 }));
      const write = async (block: number) => disk.pwrite(new Uint8Array(512).fill(block), block * BLOCK);
      const before = [write(1), write(2), disk.flush()];
      const resizes = [disk.resize(64 * GiB), disk.resize(65 * GiB)];
      const after = [write(3), write(4), disk.pread(new Uint8Array(512), 0), disk.flush()];
      await Promise.all([...before, ...resizes, ...after]);
      await disk.close();
      const again = await open(memory);
      expect(again.size).toBe(65 * GiB);
      for (const block of [1, 2, 3, 4]) {
        const seen = new Uint8Array(512);
        await again.pread(seen, block * BLOCK);
        expect(seen.every((byte) => byte === block)).toBe(true);
      }
      await again.close();
    },
  );
});

describe('a directory page that is damaged', () => {
  it('is not copied as a whole one when the directory moves', async () => {
    const file = MemoryDevice.create(0);
    await createVvd(file, { virtualSize: 8 * GiB, options: { block_size: BLOCK }, gate: closedGate });
    let disk = await open(file);
    await disk.pwrite(new Uint8Array(512).fill(1), 7 * GiB);
    await disk.close();
    const { directoryOffset } = await readHeader(file);
    disk = await open(file); // verified now: the damage comes after
    file.pwrite(new Uint8Array([1, 2, 3]), directoryOffset + 4096 + 2000);
    await disk.resize(64 * GiB);
    await disk.close();
    disk = await open(file);
    const seen = new Uint8Array(512);
    await disk.pread(seen, 7 * GiB);
    expect(seen.every((byte) => byte === 1)).toBe(true);
    await disk.close();
  });
});
