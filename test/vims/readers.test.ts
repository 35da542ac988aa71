/** Readers do not wait for changes of a file's tree: at every step of one they find it whole. */
import { expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;
/** Behind what the inode itself can map. */
const FAR = 600 * MiB;
/** More than any change has steps. */
const STEPS = 300;

it('a read at every step of a change finds the old or the new', async () => {
  const memory = MemoryDevice.create(32 * MiB);
  await formatVolume([memory]);
  const volume = await VimsVolume.attach('ds', [memory]);
  const file = await volume.files.open('ds:disk', { create: 'exclusive' });
  await file.resize(FAR + 4 * MiB);
  const seen = new Set<number>();
  const readAt = async (step: number): Promise<void> => {
    for (let i = 0; i < step; i++) await null;
    const byte = Buffer.alloc(1, 0xee);
    await file.pread(byte, FAR);
    seen.add(byte[0] as number);
  };
  for (let step = 0; step < STEPS; step++) {
    // makes the leaf of the tree, and frees it
    await Promise.all([file.pwrite(Buffer.alloc(512, 1), FAR), readAt(step)]);
    await Promise.all([file.discard(FAR, MiB), readAt(step)]);
  }
  expect([...seen].sort()).toEqual([0, 1]);
  await file.close();
  await volume.detach();
});
