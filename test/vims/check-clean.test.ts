/** A volume that was only ever used is clean, whatever was done with it. */
import { describe, expect, it } from 'vitest';
import { isVimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;
const SEEDS = 12;
const STEPS = 150;

/** Does something with a few names that come up again and again. */
async function step(volume: VimsVolume, random: SeededRandom): Promise<void> {
  const { files } = volume;
  const path = (): string => `ds:${random.pick(['', 'a/', 'b/', 'a/c/'])}f${random.below(12)}`;
  switch (random.below(10)) {
    case 0:
      return files.makeFolder(`ds:${random.pick(['a', 'b', 'a/c'])}`);
    case 1:
      return files.remove(path());
    case 2:
      return files.rename(path(), path());
    case 3:
      return files.link(path(), path());
    case 4:
      await files.copy(path(), path());
      return;
    case 5:
      return files.replace(path(), random.bytes(random.below(5000)));
    case 6:
      return files.removeFolder(`ds:${random.pick(['a', 'b', 'a/c'])}`);
    default:
      return write(volume, path(), random);
  }
}

async function write(volume: VimsVolume, path: string, random: SeededRandom): Promise<void> {
  const exists = (await volume.files.status(path)) !== undefined;
  const file = await volume.files.open(path, exists ? {} : { create: 'exclusive' });
  try {
    const offset = random.below(random.oneIn(8) ? 2 ** 40 : 8 * MiB);
    switch (random.below(4)) {
      case 0:
        return await file.resize(offset);
      case 1:
        if (file.size > 0) await file.writeZeroes(random.below(file.size), 1);
        return;
      default:
        await file.pwrite(random.bytes(random.below(300_000)), offset);
    }
  } finally {
    await file.close();
  }
}

async function used(seed: number): Promise<{ devices: MemoryDevice[]; volume: VimsVolume }> {
  const random = new SeededRandom(seed);
  const devices = [MemoryDevice.create(80 * MiB), MemoryDevice.create(60 * MiB)];
  await formatVolume(devices);
  const volume = await VimsVolume.attach('ds', devices);
  for (let i = 0; i < STEPS; i++) {
    await step(volume, random).catch((error: unknown) => {
      if (!isVimgError(error)) throw error;
    });
    if (random.oneIn(20)) await volume.files.syncFolder('ds:');
  }
  return { devices, volume };
}

describe('the check of a volume', () => {
  it('finds nothing in a new one', async () => {
    const devices = [MemoryDevice.create(64 * MiB)];
    await formatVolume(devices);
    expect(await checkVolume(devices)).toEqual({ findings: [], corruptions: 0, leaks: 0, repaired: 0 });
  });

  for (let seed = 1; seed <= SEEDS; seed++) {
    it(`finds nothing in one that was used, left in order or not (seed ${seed})`, async () => {
      const { devices, volume } = await used(seed);
      await volume.files.syncFolder('ds:');
      const cut = devices.map((device) => device.fork());
      expect((await checkVolume(cut)).findings).toEqual([]);
      await volume.detach();
      expect((await checkVolume(devices)).findings).toEqual([]);
    });
  }

  it('finds nothing in one with many names', async () => {
    const devices = [MemoryDevice.create(2048 * MiB)];
    await formatVolume(devices);
    const volume = await VimsVolume.attach('ds', devices);
    await volume.files.makeFolder('ds:many');
    for (let i = 0; i < 2000; i++) {
      await (await volume.files.open(`ds:many/file-${i}`, { create: 'exclusive' })).close();
    }
    for (let i = 0; i < 2000; i += 3) await volume.files.remove(`ds:many/file-${i}`);
    await volume.detach();
    expect((await checkVolume(devices)).findings).toEqual([]);
  });
});
