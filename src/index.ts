/**
 * vimg as a library: disks of virtual machines, opened, made, copied, compared, checked and layered.
 *
 * Every function takes paths of host files, or URIs of NBD exports, and an options object, and has safe defaults: the
 * built-in formats, QEMU's locks, and a gate that lets an image lead to files in its own folder only. Sizes and offsets
 * are bytes. What fails is a {@link VimgError} with a `code` from a closed list. The parts that these functions are made
 * of have doors of their own: `vimg/device`, `vimg/image`, `vimg/formats`, `vimg/testing`.
 */
export { formats } from '../formats/index.ts';
export { ERROR_CODES, type ErrorCode, type ErrorCodeInfo, isVimgError, VimgError } from './base/errors.ts';
export type { MaybePromise } from './base/maybe-promise.ts';
export { formatSize, parseSize } from './base/size.ts';
export type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from './device/block-device.ts';
export type { ChainLink, RelocatedLink } from './image/chain.ts';
export type { CheckFinding, CheckReport } from './image/check-report.ts';
export type { CloneResult } from './image/clone.ts';
export type { BackingChoice } from './image/create-image.ts';
export type { DiskImage, MapExtent } from './image/disk-image.ts';
export type { OptionValues } from './image/format-driver.ts';
export type { FileReference, Gate } from './image/gate.ts';
export type { DeletePlan, LayerSnapshot, LongOperation } from './image/lifecycle.ts';
export type { FormatRegistry } from './image/registry.ts';
export type { CompareResult } from './job/compare.ts';
export type { ConvertResult } from './job/convert.ts';
export type { DiskUsage, LayerUsage } from './job/disk-usage.ts';
export type { ImageInfo, SnapshotEntry } from './job/image-info.ts';
export type { JobOptions } from './job/job.ts';
export type { Measurement } from './job/measure.ts';
export type { JobPhase, OnProgress, ProgressReport } from './job/progress.ts';
export type { TrustReason, TrustVerdict } from './job/trust.ts';
export type { AccessOptions } from './library/access.ts';
export {
  type CompareImagesOptions,
  type ConvertImageOptions,
  compareImages,
  convertImage,
  type DiskSource,
  type MeasureOptions,
  measureImage,
} from './library/copies.ts';
export { type Datastores, mountDatastores } from './library/datastores.ts';
export {
  createImage,
  type NewImageOptions,
  type OpenImageOptions,
  openImage,
  type ResizeOptions,
  resizeImage,
} from './library/disks.ts';
export {
  type CheckImageOptions,
  checkImage,
  diskUsage,
  type InfoOptions,
  imageInfo,
  judgeImage,
  type MapImageOptions,
  mapImage,
  type UsageOptions,
} from './library/examine.ts';
export {
  type CloneImageOptions,
  chainOf,
  changeAttributes,
  cloneImage,
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
  planDeleteSnapshot,
  readAttributes,
  relocateChain,
  revertSnapshot,
  sealImage,
  unsealImage,
} from './library/layers.ts';
