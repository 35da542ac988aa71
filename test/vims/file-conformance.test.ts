/** Files of a volume keep the rules of a device. */
import * as fc from 'fast-check';
import { describe, it } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { deviceConformance, type MadeDevice, ShuffleDevice, type TestApi } from '../../src/testing/index.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const api: TestApi = { describe, it, fc };
const MiB = 1024 * 1024;

async function makeFile(wrap: (device: BlockDevice) => BlockDevice): Promise<MadeDevice> {
  const medium = MemoryDevice.create(64 * MiB);
  const fault = new FaultDevice(medium);
  const device = wrap(fault);
  await formatVolume([device]);
  const volume = await VimsVolume.attach('ds', [device]);
  const file = await volume.files.open('ds:disk', { create: 'exclusive' });
  await file.resize(512 * 1024);
  return {
    device: file,
    cleanup: () => volume.detach().catch(() => undefined),
    failNextFlush: () => fault.add({ on: 'flush' }),
    reopenReadOnly: () => volume.files.open('ds:disk', { readOnly: true }),
  };
}

let seed = 0;

deviceConformance(api, 'a file of a volume', () => makeFile((device) => device));
deviceConformance(api, 'a file of a volume on an uneven device', () =>
  makeFile((device) => new ShuffleDevice(device, seed++)),
);
