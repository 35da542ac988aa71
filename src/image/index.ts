/** Disk images: opening, creating, chains, snapshots, clones. */
export * from './chain.ts';
export type { CheckFinding, CheckReport } from './check-report.ts';
export { type CloneOptions, type CloneResult, linkedClone } from './clone.ts';
export { type BackingChoice, type CreateImageOptions, createImage, storedReference } from './create-image.ts';
export { DiskImage, type MapExtent, type OpenDiskOptions } from './disk-image.ts';
export type * from './format-driver.ts';
export type { FileReference, Gate } from './gate.ts';
export { closedGate, type FolderGateOptions, folderGate } from './gate-policies.ts';
export * from './layer.ts';
export type * from './lifecycle.ts';
export {
  changeOpenAttributes,
  deleteOpenSnapshot,
  snapshotForClone,
  snapshotOpenDisks,
} from './open-disks.ts';
export { claimedFormats, type ProbeResult, probeFormat, readHead } from './probe.ts';
export { FormatRegistry } from './registry.ts';
export * from './snapshot.ts';
