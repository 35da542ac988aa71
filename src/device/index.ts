/** Devices: everything that holds bytes at offsets, and the filters that go around one. */
export type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from './block-device.ts';
export { CountDevice, type OperationCount, type OperationCounts } from './count-device.ts';
export { type Delay, DelayDevice } from './delay-device.ts';
export { type Fault, FaultDevice } from './fault-device.ts';
export { FileDevice, type FileDeviceOptions } from './file-device.ts';
export type { DiskFile, FileStatus, FileSystem } from './file-system.ts';
export { type DeviceOperation, ForwardingDevice } from './forwarding-device.ts';
export { JoinedDevice } from './joined-device.ts';
export { MemoryDevice, type MemoryDeviceOptions } from './memory-device.ts';
export { mountFiles } from './mounts.ts';
export type { FileOpenOptions } from './open-file.ts';
export { applyChange, type Change, type RecordedEvent, RecordingDevice } from './recording-device.ts';
export { SubDevice, type SubDeviceOptions } from './sub-device.ts';
export { ThrottleDevice, type ThrottleOptions } from './throttle-device.ts';
