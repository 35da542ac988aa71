/** A VVD layer against a plain buffer: random operations, flushes and reopens, over block sizes. */
import { describe, expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';

const KiB = 1024;
const SIZE = 3 * 1024 * KiB + 512;

async function open(file: MemoryDevice): Promise<DiskImage> {
  const layer = await openVvd(file, { readOnly: false, gate: closedGate });
  return new DiskImage('memory', [layer]);
}

describe.each([64 * KiB, 128 * KiB, 1024 * KiB])('a VVD disk with blocks of %i bytes', (blockSize) => {
  it.each([1, 2, 3, 4, 5])('holds what was written (seed %i)', async (seed) => {
    const random = new SeededRandom(seed);
    const file = MemoryDevice.create(0, { growable: true });
    await createVvd(file, { virtualSize: SIZE, options: { block_size: blockSize }, gate: closedGate });
    const model = new Uint8Array(SIZE);
    let disk = await open(file);
    for (let step = 0; step < 300; step++) {
      const offset = random.below(SIZE);
      const length = Math.min(SIZE - offset, 1 + random.below(random.oneIn(4) ? 400 * KiB : 9000));
      switch (random.below(12)) {
        case 0:
          await disk.writeZeroes(offset, length, { keepAllocated: random.oneIn(2) });
          model.fill(0, offset, offset + length);
          break;
        case 1:
          await disk.flush();
          break;
        case 2:
          await disk.close();
          disk = await open(file);
          break;
        case 3: {
          await disk.discard(offset, length);
          await disk.pread(model.subarray(offset, offset + length), offset);
          break;
        }
        case 4: {
          const start = Math.floor(offset / blockSize) * blockSize;
          const unit = new Uint8Array(Math.min(blockSize, SIZE - start)).fill(step);
          await disk.writeCompressed(start, unit);
          model.set(unit, start);
          break;
        }
        default: {
          const data = random.fill(new Uint8Array(length));
          await disk.pwrite(data, offset);
          model.set(data, offset);
        }
      }
      const from = random.below(SIZE);
      const seen = new Uint8Array(Math.min(SIZE - from, 200 * KiB));
      await disk.pread(seen, from);
      expect(Buffer.compare(seen, model.subarray(from, from + seen.length))).toBe(0);
    }
    await disk.close();
    disk = await open(file);
    const all = new Uint8Array(SIZE);
    await disk.pread(all, 0);
    expect(Buffer.compare(all, model)).toBe(0);
    await disk.close();
  });
});
