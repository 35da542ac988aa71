/** A crash while a volume grows, at each write: the volume is whole before and after the next attach. */
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { BLOCK } from '../../src/vims/geometry.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;
const WRITES = 24;

/** Grows a volume of 100 MiB to 1200 MiB, and fails from its n-th write on. @returns what is on the device then */
async function cutOff(n: number, partialBytes: number): Promise<MemoryDevice> {
  const medium = MemoryDevice.create(100 * MiB);
  const device = new FaultDevice(medium);
  await formatVolume([device]);
  const volume = await VimsVolume.attach('ds', [device]);
  await volume.files.replace('ds:note', 'x');
  await medium.resize(1200 * MiB);
  device.add({ on: 'write', at: n, partialBytes });
  device.add({ on: 'write', at: n + 1, sticky: true });
  device.add({ on: 'flush', sticky: true, at: 1000 });
  await volume.grow().catch(() => undefined);
  await volume.files.syncFolder('ds:').catch(() => undefined);
  return medium;
}

describe('a volume whose growing was cut off', () => {
  it.each([0, 512, BLOCK / 2])('is whole, also when the last write is torn after %i bytes', async (torn) => {
    for (let n = 1; n <= WRITES; n++) {
      const medium = await cutOff(n, torn);
      const what = `write ${n}, ${torn} bytes of it`;
      expect((await checkVolume([medium])).findings, what).toEqual([]);
      const devices: BlockDevice[] = [medium];
      const volume = await VimsVolume.attach('ds', devices);
      await volume.files.replace('ds:other', 'y');
      await volume.detach();
      expect((await checkVolume(devices)).findings, what).toEqual([]);
    }
  });
});
