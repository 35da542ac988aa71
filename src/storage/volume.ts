/** What a datastore needs of a file system on block devices: the volume implements it, this folder uses it. */
import type { BlockDevice } from '../device/block-device.ts';
import type { FileSystem } from '../device/file-system.ts';
import type { InspectedStructure } from '../image/format-driver.ts';
import type { Capacity } from './datastore.ts';

/** What a device says of the volume that it belongs to. */
export interface VolumeIdentity {
  readonly uuid: string;
  /** Devices that the volume has, and which of them this is, from 0. */
  readonly devices: number;
  readonly index: number;
}

/** A volume that this process has attached. */
export interface Volume {
  /** Its files; locks are not its business. */
  readonly files: FileSystem;
  capacity(): Promise<Capacity>;
  /** Makes an empty device part of the volume, while it is in use; durable when this returns. */
  addDevice(device: BlockDevice): Promise<void>;
  /** Takes in what its devices have grown by. @returns bytes that were won */
  grow(): Promise<number>;
  /** Checks it while it is in use: changes of metadata wait meanwhile. */
  check(): Promise<VolumeCheck>;
  /** Flushes, and writes down that it was left in order. The devices stay open. */
  detach(): Promise<void>;
}

/** What a check of a volume found. */
export interface VolumeCheck {
  readonly findings: readonly { readonly severity: 'corruption' | 'leak'; readonly message: string }[];
  readonly repaired: number;
}

export interface VolumeDriver {
  /** Undefined for a device that carries no volume. @throws VimgError `CORRUPT` for one that carries a damaged one */
  identify(device: BlockDevice): Promise<VolumeIdentity | undefined>;
  /** Makes a new, empty volume of empty devices; durable when this returns. @returns its UUID */
  format(devices: readonly BlockDevice[]): Promise<string>;
  /** @param place the name under which its files are told: `ds1` for `ds1:vm1/root.vvd` */
  attach(place: string, devices: readonly BlockDevice[]): Promise<Volume>;
  /** Checks a volume that nobody has attached. */
  check(devices: readonly BlockDevice[], options: VolumeCheckOptions): Promise<VolumeCheck>;
  /** Puts back what a repair overwrote. */
  undoRepair(devices: readonly BlockDevice[], undoPath: string): Promise<void>;
}

/** A look at what is on devices, whatever state it is in. Nothing is written. */
export interface VolumeInspector {
  /** Whether a device looks like one of a volume, sound or not. @throws VimgError `IO` */
  looksLike(device: BlockDevice): Promise<boolean>;
  /** What one device says of itself, in short, damaged or not. */
  inspect(device: BlockDevice): AsyncGenerator<InspectedStructure>;
  /**
   * One block of a device with all its fields, damaged or not.
   *
   * @param address device × 2^40 + block on that device
   * @throws VimgError `USAGE` when there is no such block on the device
   */
  inspectBlock(device: BlockDevice, address: number): Promise<InspectedBlock>;
}

export interface InspectedBlock extends InspectedStructure {
  /** What follows the fields. */
  readonly rest: Uint8Array;
}

export interface VolumeCheckOptions {
  /** Repair what can be proven, saving what is overwritten here. */
  readonly undoPath?: string;
  readonly signal: AbortSignal;
}
