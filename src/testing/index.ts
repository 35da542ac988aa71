/** What tests of devices and drivers need, here and in other repositories: conformance suites and models. */
export { CrashStates } from './crash-states.ts';
export {
  type DeviceConformanceOptions,
  deviceConformance,
  type MadeDevice,
} from './device-conformance.ts';
export { DeviceModel, type ModelOperation, modelOperation, patterned, sameBytes } from './device-model.ts';
export {
  applyDiskOperation,
  type DiskOperation,
  type DiskOperationOptions,
  type DiskRange,
  type DiskUnderTest,
  diskOperation,
} from './disk-operations.ts';
export { driverConformance } from './driver-conformance.ts';
export { lockConformance, type MadePlace } from './lock-conformance.ts';
export { ManualClock } from './manual-clock.ts';
export { MemoryFiles } from './memory-files.ts';
export { ModelDisk, type ModelDiskOptions } from './model-disk.ts';
export { type HistoryOperation, SECTOR, SectorHistory, SectorPromise } from './sector-history.ts';
export { ShuffleDevice, type ShuffleOptions } from './shuffle-device.ts';
export type { TestApi } from './test-api.ts';
