/**
 * What happens to whole image files: snapshots, clones, sealing, attributes, parents. A format that keeps its
 * snapshots as layers implements this; the verbs call it through the functions of snapshot.ts, clone.ts, chain.ts.
 *
 * Every operation is atomic against a crash: afterwards the disk is as before or as asked. What a crash left behind
 * is completed or undone by `settle`, at the next open for writing.
 */
import type { BlockDevice } from '../device/block-device.ts';
import type { DiskImage } from './disk-image.ts';
import type { Layer } from './layer.ts';
import type { OpenDiskOptions } from './open-chain.ts';

/** How the files of a chain are opened. */
export type LifecycleContext = Pick<OpenDiskOptions, 'formats' | 'allow' | 'allowAny' | 'gate'>;

export interface LongOperation {
  readonly signal?: AbortSignal;
  /** Bytes done and bytes to do. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** One snapshot of a disk that keeps its snapshots as layers. */
export interface LayerSnapshot {
  readonly name: string;
  /** File of the layer. */
  readonly path: string;
  readonly uuid: string;
  readonly dateMs: number;
  readonly virtualSize: number;
  /** The disk stands on it now; false for one that was left aside by a revert. */
  readonly inChain: boolean;
  /** Its deletion was interrupted: it can only be deleted. */
  readonly deleting: boolean;
}

/** What deleting a snapshot will do. */
export interface DeletePlan {
  readonly snapshot: string;
  /** `unlink`: nothing stands on it. `down`: its data moves into the layer above. `up`: the disk's moves into it. */
  readonly way: 'unlink' | 'down' | 'up';
  /** Guest bytes that are copied; as much storage is needed for them, at most. */
  readonly bytes: number;
  /** Bytes of storage of the file that goes. */
  readonly freed: number;
}

export type AttributeChange = ReadonlyMap<string, string | undefined>;

/** The top layer of a disk that is open for writing here. */
export interface OpenTop {
  readonly path: string;
  readonly layer: Layer;
  /** As the disk was opened. */
  readonly blocking: boolean;
}

/** What became of an open disk by a snapshot: its new, empty top, and the layer behind it that was its top. */
export interface TakenSnapshot {
  readonly top: Layer;
  readonly sealed: Layer;
}

/** A snapshot of open disks that is prepared, and takes milliseconds from here. */
export interface OpenSnapshot {
  /**
   * Takes it, while nothing is under way in any of the disks. The old layers must not be used or closed afterwards.
   * When it fails, the disks are as before, or refuse everything.
   *
   * @returns for each open disk
   */
  take(): Promise<readonly TakenSnapshot[]>;
  /** What is left to do once it is taken; the disks are in use meanwhile. */
  finish(): Promise<void>;
  /** Instead of `take`: nothing stays of it. */
  discard(): Promise<void>;
}

/** The operations that work in a disk that is open and in use, where a format has them. */
export interface OpenDiskOperations {
  /**
   * Prepares a snapshot of disks that are open here, and of disks that nobody has open; all of them or none.
   *
   * @throws VimgError `EXISTS`, `LOCKED`, `NO_SPACE`
   */
  stageSnapshot(tops: readonly OpenTop[], closed: readonly string[], name: string): Promise<OpenSnapshot>;
  /**
   * Deletes a snapshot while the disk goes on being used; what it reads does not change. Nothing else is done with the
   * disk's layers meanwhile.
   *
   * @param operation with `planOnly` nothing is done, and only the plan is told
   * @throws VimgError `NOT_FOUND`, `LOCKED`, `UNSUPPORTED` for one that has to wait until nobody uses the disk, `NO_SPACE`,
   *   `CANCELLED`: doing it again goes on
   */
  deleteSnapshot(
    disk: DiskImage,
    name: string,
    operation: LongOperation & { readonly planOnly?: boolean },
  ): Promise<DeletePlan>;
  /** Tells the open top of `disk` which clone is about to stand on it, while nothing is under way in it. */
  recordClone(layer: Layer, disk: string, clone: string): Promise<void>;
  /** Sets and removes attributes of a layer that is open for writing, while nothing is under way in it. */
  changeAttributes(layer: Layer, change: AttributeChange): Promise<void>;
}

export interface Lifecycle {
  readonly open: OpenDiskOperations;
  /**
   * Completes or undoes what a crash left, in a file that is open and locked for writing.
   *
   * @returns true when `path` names another file now and must be opened again
   */
  settle(file: BlockDevice, path: string): Promise<boolean>;
  /** Seals the present content of each disk as a layer; all of them or none. Constant time. */
  createSnapshot(paths: readonly string[], name: string): Promise<void>;
  listSnapshots(path: string): Promise<LayerSnapshot[]>;
  /** The disk's content is the snapshot's again; what was written since is given up. */
  revertSnapshot(path: string, name: string): Promise<void>;
  planDelete(path: string, name: string): Promise<DeletePlan>;
  deleteSnapshot(path: string, name: string, context: LifecycleContext & LongOperation): Promise<DeletePlan>;
  /** The file that a clone of this disk (or of a snapshot of it) stands on; takes a snapshot of a disk in use. */
  baseForClone(path: string, snapshot: string | undefined): Promise<string>;
  /** Tells a base which clone stands on it. @returns false when the base is in use and could not be told */
  recordClone(base: string, clone: string): Promise<boolean>;
  /** Files that are known to stand on this one: beside it, or told of by `recordClone`. */
  standingOn(path: string): Promise<string[]>;
  /** Why the file must not be replaced by another disk: it is sealed, has snapshots, is a parent. For a message. */
  neededFor(path: string): Promise<string | undefined>;
  seal(path: string, operation: LongOperation): Promise<void>;
  unseal(path: string, force: boolean): Promise<void>;
  readAttributes(path: string): Promise<Map<string, string | number | boolean>>;
  changeAttributes(path: string, change: AttributeChange): Promise<void>;
  /** Stores another path for the parent of this layer; its identity stays what it is. */
  changeParentPath(path: string, stored: string): Promise<void>;
}
