/** What every part of an attached volume works with. */
import type { ClusterCounts } from './cluster-counts.ts';
import type { DeviceSet } from './device-set.ts';
import type { Metadata } from './metadata.ts';
import type { Space } from './space.ts';

export interface VolumeCore {
  readonly devices: DeviceSet;
  readonly metadata: Metadata;
  readonly space: Space;
  readonly counts: ClusterCounts;
  /** Block address of the inode of the folder of files without a name. */
  readonly orphans: number;
}
