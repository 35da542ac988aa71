/** More table pages than memory keeps: they leave it and come back as they were. */
import { expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import { ENTRIES, PAGE } from '../../../formats/vvd/layout.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import { LIMITS } from '../../../src/base/limits.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';
import { ShuffleDevice } from '../../../src/testing/index.ts';

const BLOCK = 64 * 1024;
const SPAN = ENTRIES * BLOCK;
const TABLES = Math.floor(LIMITS.metadataCache / PAGE) + 600;
/** One table in so many also holds data. */
const DATA_EVERY = 40;

async function open(file: BlockDevice): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly: false, gate: closedGate })]);
}

it.each(['in the same tick', 'in any order'])('on a device that answers %s', async (how) => {
  const memory = MemoryDevice.create(0);
  await createVvd(memory, { virtualSize: TABLES * SPAN, options: { block_size: BLOCK }, gate: closedGate });
  const around = (): BlockDevice =>
    how === 'in any order' ? new ShuffleDevice(memory, 1, { sameTickOneIn: 2 }) : memory;
  let disk = await open(around());
  const random = new SeededRandom(1);
  const change = async (table: number): Promise<void> => {
    await disk.writeZeroes(table * SPAN, 4096, { keepAllocated: true });
    if (table % DATA_EVERY === 0)
      await disk.pwrite(new Uint8Array(512).fill(1 + (table % 250)), table * SPAN + BLOCK);
    if (random.oneIn(500)) await disk.flush();
  };
  for (let table = 0; table < TABLES; table += 8) {
    await Promise.all(Array.from({ length: 8 }, (_, i) => table + i < TABLES && change(table + i)));
  }
  const seen = new Uint8Array(512);
  for (let round = 0; round < 2; round++) {
    for (let table = 0; table < TABLES; table++) {
      expect((await disk.status(table * SPAN, 512)).allocated, `table ${table}`).toBe(true);
      if (table % DATA_EVERY !== 0) continue;
      await disk.pread(seen, table * SPAN + BLOCK);
      expect(
        seen.every((byte) => byte === 1 + (table % 250)),
        `table ${table}`,
      ).toBe(true);
    }
    await disk.close();
    disk = await open(around());
  }
  await disk.close();
});
