/** What every part of an attached volume works with. */
import type { DeviceSet } from './device-set.ts';
import type { Metadata } from './metadata.ts';
import type { Space } from './space.ts';

export interface VolumeCore {
  readonly devices: DeviceSet;
  readonly metadata: Metadata;
  readonly space: Space;
  /** Block address of the inode of the folder of files without a name. */
  readonly orphans: number;
}
