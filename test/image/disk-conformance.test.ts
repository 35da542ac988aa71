/** An opened disk is a block device: it runs the conformance suite of devices, whatever its format and file. */
import * as fc from 'fast-check';
import { describe, it } from 'vitest';
import { RawLayer } from '../../formats/raw/layer.ts';
import { createVvd } from '../../formats/vvd/create.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { ForwardingDevice } from '../../src/device/forwarding-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import type { Layer } from '../../src/image/layer.ts';
import { deviceConformance, type MadeDevice, ShuffleDevice, type TestApi } from '../../src/testing/index.ts';

const SIZE = 200_192;
const api: TestApi = { describe, it, fc };

/** The suite resizes by bytes; a disk has whole sectors. Resizing disks is tested by their models. */
class FixedSizeDisk extends ForwardingDevice {
  override resize(): void {
    throw new VimgError('UNSUPPORTED', 'a disk of fixed size');
  }
}

async function made(
  memory: MemoryDevice,
  around: (file: BlockDevice) => BlockDevice,
  open: (file: BlockDevice, readOnly: boolean) => Promise<Layer>,
): Promise<MadeDevice> {
  const faults = new FaultDevice(memory);
  return {
    device: new FixedSizeDisk(new DiskImage('disk', [await open(around(faults), false)])),
    failNextRead: () => faults.add({ on: 'read' }),
    reopenReadOnly: async () => new DiskImage('disk', [await open(memory.fork({ readOnly: true }), true)]),
  };
}

async function madeVvd(around: (file: BlockDevice) => BlockDevice): Promise<MadeDevice> {
  const memory = MemoryDevice.create(0);
  await createVvd(memory, { virtualSize: SIZE, options: { block_size: 65536 }, gate: closedGate });
  return made(memory, around, (file, readOnly) => openVvd(file, { readOnly, gate: closedGate }));
}

function madeRaw(around: (file: BlockDevice) => BlockDevice): Promise<MadeDevice> {
  const open = (file: BlockDevice, readOnly: boolean) => Promise.resolve(new RawLayer(file, readOnly));
  return made(MemoryDevice.create(SIZE), around, open);
}

let seed = 0;
const uneven = (file: BlockDevice): BlockDevice => new ShuffleDevice(file, seed++);

deviceConformance(api, 'a VVD disk', () => madeVvd((file) => file));
deviceConformance(api, 'a VVD disk on an uneven device', () => madeVvd(uneven));
deviceConformance(api, 'a raw disk', () => madeRaw((file) => file));
deviceConformance(api, 'a raw disk on an uneven device', () => madeRaw(uneven));
