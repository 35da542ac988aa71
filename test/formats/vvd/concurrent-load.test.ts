/** Metadata pages that several operations ask for at once, while one of them makes or changes them. */
import { describe, expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';
import { ShuffleDevice } from '../../../src/testing/index.ts';

const GiB = 2 ** 30;
const BLOCK = 64 * 1024;

async function open(file: BlockDevice): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly: false, gate: closedGate })]);
}

describe('metadata pages that are not in memory', () => {
  it.each(Array.from({ length: 20 }, (_, i) => i))('are loaded or made once (order %i)', async (seed) => {
    const memory = MemoryDevice.create(0);
    await createVvd(memory, { virtualSize: GiB, options: { block_size: BLOCK }, gate: closedGate });
    const disk = await open(new ShuffleDevice(memory, seed, { sameTickOneIn: 0 }));
    await disk.pwrite(new Uint8Array(512).fill(1), 300 * BLOCK);
    await disk.resize(64 * GiB); // the directory moves: none of it is in memory any more
    const blocks = [0, 1, 300, 301, 600, 601, 3, 302];
    await Promise.all(
      blocks.map(async (block) => {
        await disk.pwrite(new Uint8Array(512).fill(block % 251), block * BLOCK);
        await disk.flush();
      }),
    );
    await disk.close();
    const again = await open(memory);
    for (const block of blocks) {
      const seen = new Uint8Array(512);
      await again.pread(seen, block * BLOCK);
      expect(seen.every((byte) => byte === block % 251)).toBe(true);
    }
    await again.close();
  });
});
