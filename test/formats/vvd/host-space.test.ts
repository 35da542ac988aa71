/** Host space that is refused: taking it fails one operation, giving it back fails nothing. */
import { describe, expect, it } from 'vitest';
import { createVvd } from '../../../formats/vvd/create.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';
import { ShuffleDevice } from '../../../src/testing/index.ts';

const BLOCK = 64 * 1024;

async function open(file: BlockDevice): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly: false, gate: closedGate })]);
}

async function newFile(): Promise<MemoryDevice> {
  const memory = MemoryDevice.create(0);
  await createVvd(memory, { virtualSize: 64 * BLOCK, options: { block_size: BLOCK }, gate: closedGate });
  return memory;
}

async function expectFilled(disk: DiskImage, block: number, byte: number): Promise<void> {
  const seen = new Uint8Array(BLOCK);
  await disk.pread(seen, block * BLOCK);
  expect(seen.every((found) => found === byte)).toBe(true);
}

describe.each(['in the same tick', 'later'])('host space refused %s', (when) => {
  async function faulty(): Promise<{ memory: MemoryDevice; faults: FaultDevice; disk: DiskImage }> {
    const memory = await newFile();
    const faults = new FaultDevice(memory);
    const file = when === 'later' ? new ShuffleDevice(faults, 1, { sameTickOneIn: 0 }) : faults;
    const disk = await open(file);
    return { memory, faults, disk };
  }

  it('for table pages fails the write that needed them, and no other', async () => {
    const { memory, faults, disk } = await faulty();
    faults.add({ on: 'zero', at: 2, error: 'ENOSPC' }); // the first is the journal's
    await expect(async () => disk.pwrite(new Uint8Array(BLOCK).fill(1), 0)).rejects.toMatchObject({
      code: 'NO_SPACE',
    });
    await disk.pwrite(new Uint8Array(BLOCK).fill(2), 0);
    await disk.flush();
    await disk.close();
    const again = await open(memory);
    await expectFilled(again, 0, 2);
    await again.close();
  });

  it('for zeroes that keep their space fails those, and no other', async () => {
    const { memory, faults, disk } = await faulty();
    await disk.pwrite(new Uint8Array(BLOCK).fill(1), 0);
    faults.add({ on: 'zero', error: 'ENOSPC' });
    const zero = async () => disk.writeZeroes(BLOCK, BLOCK, { keepAllocated: true });
    await expect(zero).rejects.toMatchObject({ code: 'NO_SPACE' });
    await zero();
    await disk.pwrite(new Uint8Array(BLOCK).fill(2), 2 * BLOCK);
    await disk.flush();
    await disk.close();
    const again = await open(memory);
    for (const [block, byte] of [1, 0, 2].entries()) await expectFilled(again, block, byte);
    await again.close();
  });

  it('to be given back fails no flush, no close and no open', async () => {
    const { memory, faults, disk } = await faulty();
    await disk.pwrite(new Uint8Array(4 * BLOCK).fill(1), 0);
    await disk.flush();
    faults.add({ on: 'discard', sticky: true });
    faults.add({ on: 'resize', sticky: true });
    await disk.writeZeroes(BLOCK, BLOCK);
    await disk.writeZeroes(2 * BLOCK + 4096, 4096);
    await disk.flush();
    const crashed = new FaultDevice(memory.fork(), [
      { on: 'discard', sticky: true },
      { on: 'resize', sticky: true },
    ]);
    await disk.close();
    for (const file of [memory, crashed]) {
      const again = await open(file);
      await expectFilled(again, 0, 1);
      await expectFilled(again, 1, 0);
      await expectFilled(again, 3, 1);
      await again.close();
    }
  });
});
