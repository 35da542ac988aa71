import { open as openHandle } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { systemRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import {
  CountDevice,
  DelayDevice,
  FaultDevice,
  FileDevice,
  ForwardingDevice,
  JoinedDevice,
  MemoryDevice,
  RecordingDevice,
  SubDevice,
  ThrottleDevice,
} from '../../src/device/index.ts';
import { setNativeCalls } from '../../src/host/libc.ts';
import { deviceConformance, type MadeDevice, type TestApi } from '../../src/testing/index.ts';

const SIZE = 200_003;
const api: TestApi = { describe, it, fc };
let folder: { path: string; cleanup: () => Promise<void> };

beforeAll(async () => {
  folder = await dir({ prefix: 'vimg-conformance-', unsafeCleanup: true });
});
afterAll(() => folder.cleanup());

async function newFile(size: number): Promise<string> {
  const path = join(folder.path, Buffer.from(systemRandom(8)).toString('hex'));
  const handle = await openHandle(path, 'wx');
  await handle.truncate(size);
  await handle.close();
  return path;
}

async function madeFile(blocking: boolean): Promise<MadeDevice> {
  const path = await newFile(SIZE);
  return {
    device: await FileDevice.open(path, { blocking, lock: 'write' }),
    reopenReadOnly: () => FileDevice.open(path, { blocking, readOnly: true, lock: 'read' }),
  };
}

/** A filter over a memory device that can be told to fail. */
function madeFilter(filter: (inner: BlockDevice) => BlockDevice): MadeDevice {
  const memory = MemoryDevice.create(SIZE);
  const faults = new FaultDevice(memory);
  return {
    device: filter(faults),
    failNextFlush: () => faults.add({ on: 'flush' }),
    failNextRead: () => faults.add({ on: 'read' }),
    reopenReadOnly: () => filter(memory.fork({ readOnly: true })),
  };
}

deviceConformance(api, 'MemoryDevice', () => {
  const device = MemoryDevice.create(SIZE);
  return { device, reopenReadOnly: () => device.fork({ readOnly: true }) };
});
deviceConformance(api, 'MemoryDevice of fixed size', () => ({
  device: MemoryDevice.create(SIZE, { growable: false }),
}));
deviceConformance(api, 'FileDevice', () => madeFile(true));
deviceConformance(api, 'FileDevice on an event loop', () => madeFile(false));
describe('without native calls', () => {
  beforeAll(() => setNativeCalls(false));
  afterAll(() => setNativeCalls(true));
  deviceConformance(api, 'FileDevice', () => madeFile(true));
  deviceConformance(api, 'FileDevice on an event loop', () => madeFile(false));
});

deviceConformance(api, 'ForwardingDevice', () => madeFilter((inner) => new ForwardingDevice(inner)));
deviceConformance(api, 'FaultDevice', () => {
  const memory = MemoryDevice.create(SIZE);
  const device = new FaultDevice(memory);
  return {
    device,
    failNextFlush: () => device.add({ on: 'flush' }),
    failNextRead: () => device.add({ on: 'read' }),
    reopenReadOnly: () => new FaultDevice(memory.fork({ readOnly: true })),
  };
});
deviceConformance(api, 'CountDevice', () => madeFilter((inner) => new CountDevice(inner)));
deviceConformance(api, 'RecordingDevice', () => madeFilter((inner) => new RecordingDevice(inner)));
deviceConformance(api, 'DelayDevice', () => madeFilter((inner) => new DelayDevice(inner, 0)), { runs: 5 });
deviceConformance(api, 'ThrottleDevice', () =>
  madeFilter((inner) => new ThrottleDevice(inner, { bytesPerSecond: 1e12, burstBytes: 100_000 })),
);
deviceConformance(api, 'SubDevice', () =>
  madeFilter((inner) => new SubDevice(inner, 12_345, 150_000, { closeInner: true })),
);
deviceConformance(api, 'JoinedDevice', () => {
  const parts = [5_000, 100_000, 0, 50_003].map((size) => MemoryDevice.create(size));
  const faults = new FaultDevice(parts[1] as MemoryDevice);
  const [first, , empty, last] = parts as [MemoryDevice, MemoryDevice, MemoryDevice, MemoryDevice];
  return {
    device: new JoinedDevice([first, faults, empty, new DelayDevice(last, 0)]),
    failNextFlush: () => faults.add({ on: 'flush' }),
    failNextRead: () => faults.add({ on: 'read' }),
    reopenReadOnly: () => new JoinedDevice(parts.map((part) => part.fork({ readOnly: true }))),
  };
});
