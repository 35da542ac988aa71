/** More free extents than the list on disk holds: what is left out leaks, and nothing is given out twice. */
import { expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { createVvd } from '../../../formats/vvd/create.ts';
import { FREE_EXTENTS_LIMIT } from '../../../formats/vvd/layout.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';

const BLOCK = 64 * 1024;
const BLOCKS = 2 * FREE_EXTENTS_LIMIT + 400;

async function open(file: MemoryDevice): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly: false, gate: closedGate })]);
}

it('a disk with every other block freed is written again', async () => {
  const file = MemoryDevice.create(0);
  const options = { block_size: BLOCK, journal_size: 128 * 1024 };
  await createVvd(file, { virtualSize: BLOCKS * BLOCK, options, gate: closedGate });
  let disk = await open(file);
  const write = async (block: number, byte: number) =>
    disk.pwrite(new Uint8Array(512).fill(byte), block * BLOCK);
  for (let block = 0; block < BLOCKS; block++) await write(block, 1 + (block % 200));
  for (let block = 1; block < BLOCKS; block += 2) await disk.discard(block * BLOCK, BLOCK);
  await disk.flush();
  const crashed = file.fork();
  await disk.close();
  for (const after of [file, crashed]) {
    disk = await open(after);
    for (let block = 1; block < BLOCKS; block += 2) await write(block, 201 + (block % 50));
    await disk.close();
    disk = await open(after);
    const seen = new Uint8Array(512);
    for (let block = 0; block < BLOCKS; block++) {
      await disk.pread(seen, block * BLOCK);
      const expected = block % 2 === 0 ? 1 + (block % 200) : 201 + (block % 50);
      expect(seen.every((byte) => byte === expected)).toBe(true);
    }
    await disk.close();
    expect((await checkVvd(after)).corruptions).toBe(0);
  }
});
