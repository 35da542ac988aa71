/** The end of a file while it moves: what is behind it, and changes there that come at the same time. */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { ShuffleDevice } from '../../src/testing/index.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const TiB = MiB * MiB;

async function fresh(size: number, seed?: number): Promise<VimsVolume> {
  const memory = MemoryDevice.create(size);
  await formatVolume([memory]);
  return VimsVolume.attach('ds', [seed === undefined ? memory : new ShuffleDevice(memory, seed)]);
}

describe('the end of a file', () => {
  it('moves with writes that come at the same time as a discard in front of them', async () => {
    for (let seed = 0; seed < 60; seed++) {
      const volume = await fresh(32 * MiB, seed);
      const random = new SeededRandom(seed);
      const file = await volume.files.open('ds:disk', { create: 'exclusive' });
      const end = (1 + random.below(100)) * KiB;
      await file.pwrite(Buffer.alloc(end, 1), 0);
      // from here on there is room in a piece that is written, or in the next one
      const places = [end, end + 2 * KiB, end + 70 * KiB];
      const writes = places.map(async (at) => file.pwrite(Buffer.alloc(KiB, 2), at));
      const discard = (async () => file.discard(0, end))();
      await Promise.all([...writes, discard]);
      for (const at of places) {
        const back = Buffer.alloc(KiB);
        await file.pread(back, at);
        expect(back.equals(Buffer.alloc(KiB, 2)), `seed ${seed}, write at ${at}`).toBe(true);
      }
      await file.close();
      await volume.detach();
    }
  });

  it('stays where it is when a write finds no space, and what was written of it is given back', async () => {
    const volume = await fresh(40 * MiB);
    const before = await volume.capacity();
    const file = await volume.files.open('ds:disk', { create: 'exclusive' });
    await file.pwrite(Buffer.alloc(100, 1), 0);
    const write = async (): Promise<void> => file.pwrite(Buffer.alloc(60 * MiB, 2), 100);
    await expect(write()).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect(file.size).toBe(100);
    expect((await volume.files.status('ds:disk'))?.allocated).toBe(MiB);
    await file.flush();
    expect((await volume.capacity()).free).toBe(before.free - MiB);
    await file.resize(20 * MiB);
    const back = Buffer.alloc(20 * MiB, 7);
    await file.pread(back, 0);
    expect(back.subarray(0, 100).equals(Buffer.alloc(100, 1))).toBe(true);
    expect(back.subarray(100).every((byte) => byte === 0)).toBe(true);
    await file.close();
    await volume.detach();
  });

  it('can be far away: what is known of a hole is told at once', async () => {
    const volume = await fresh(32 * MiB);
    const file = await volume.files.open('ds:disk', { create: 'exclusive' });
    await file.resize(64 * TiB);
    expect(await file.status(0, 64 * TiB)).toEqual({
      offset: 0,
      length: 64 * TiB,
      zero: true,
      allocated: false,
    });
    await file.pwrite(Buffer.alloc(512, 1), 32 * TiB);
    expect(await file.status(5, 64 * TiB - 5)).toMatchObject({ length: 32 * TiB - 5, zero: true });
    expect(await file.status(32 * TiB, 32 * TiB)).toMatchObject({ length: 64 * KiB, zero: false });
    await file.close();
    await volume.detach();
  });
});
