/**
 * A layer: one opened image file, without what stands behind it.
 *
 * A format driver does not read or write guest data. Its layer answers "where does this range live?" and, before a
 * write, makes a place for a range; the I/O engine (read-path.ts, write-path.ts) moves the bytes. Guest offsets
 * (`offset`) and places in a file (`deviceOffset`) are both bytes and never mixed.
 */

import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { HitCounts } from './cache-statistics.ts';

/** The layer holds nothing here: ask the layer behind; at the end of the chain, zeroes. */
export const BEHIND = 0;
/** Reads as zeroes, whatever stands behind. */
export const ZERO = 1;
/** At `deviceOffset` of `device`, byte for byte. */
export const DATA = 2;
/** Inside one compressed unit: `decompress` gives the whole unit. */
export const COMPRESSED = 3;

export type LocationKind = typeof BEHIND | typeof ZERO | typeof DATA | typeof COMPRESSED;

/** The answer to "where does this range live?". One object is filled again and again: nothing is allocated per I/O. */
export class Location {
  kind: LocationKind = BEHIND;
  /** Bytes from the asked offset on for which the answer holds: at least 1, at most what was asked. */
  length = 0;
  /** Where data lives; set for DATA and COMPRESSED. */
  device: BlockDevice | undefined = undefined;
  deviceOffset = 0;
  /** ZERO with a place of its own: space is taken although it reads as zeroes. */
  reserved = false;
  /** COMPRESSED: guest offset and length of the unit that holds the range, and its stored bytes. */
  unitOffset = 0;
  unitLength = 0;
  storedLength = 0;
  /** A checksum of the stored unit must be verified before the data is used (sealed layers). */
  verify = false;
}

/** A place for guest data that is about to be written. */
export class Placement {
  offset = 0;
  /** Bytes of the request that fit this place: at least 1. */
  length = 0;
  device: BlockDevice | undefined = undefined;
  deviceOffset = 0;
  /**
   * Old content that must be written in front of and behind the data so that whole units are written
   * (copy on write of the edges). 0 when the range is written where it already lives.
   */
  fillBefore = 0;
  fillAfter = 0;
  /** `LayerWriter.placed` (or `abandon`) must be called once the bytes are written. */
  pending = false;
}

/** How a layer's parent is named and recognised. */
export interface BackingReference {
  /** As stored in the header: relative to the folder of the file that names it, or absolute. */
  readonly path: string;
  /** Driver name, when the header says it. */
  readonly format: string | undefined;
  /** The reference carries an identity that `verify` checks, so the path alone opens nothing. */
  readonly byIdentity: boolean;
  /** @throws VimgError `STALE_PARENT` when `parent` is not the one that was meant, or changed since */
  verify?(parent: Layer): Promise<void>;
  /** Whether a file is the parent meant, for a search; cheap. */
  matches?(identity: LayerIdentity): boolean;
}

/** What recognises a layer whatever its name: who it is, and which content. */
export interface LayerIdentity {
  readonly uuid: string;
  readonly contentId: string;
  /** The layer is being merged with this child, for which alone it still has the content ID it had. */
  readonly former?: { readonly childUuid: string; readonly contentId: string };
}

/** A snapshot inside or below a disk. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly dateMs: number;
  /** Nanoseconds past the second of `dateMs`, where the format keeps them. */
  readonly dateNsec?: number;
  /** Instructions executed, where the format keeps them. */
  readonly icount?: number;
  readonly vmClockNs: number;
  readonly vmStateSize: number;
  readonly virtualSize?: number;
}

/** What `vimg info` shows of a layer. */
export interface LayerInfo {
  readonly clusterSize?: number;
  readonly dirty: boolean;
  readonly encrypted?: boolean;
  readonly compressed?: boolean;
  readonly snapshots?: readonly SnapshotInfo[];
  /** Under `format-specific.data`, keys as qemu-img prints them where it knows the format. */
  readonly specific?: Readonly<Record<string, unknown>>;
  /** The data file of an image that keeps guest data elsewhere, as stored. */
  readonly dataFile?: string;
  /** What a person should know before trusting the image. */
  readonly warnings?: readonly string[];
}

export interface Layer {
  /** Driver name. */
  readonly format: string;
  readonly file: BlockDevice;
  /** Guest bytes. */
  readonly virtualSize: number;
  readonly readOnly: boolean;
  /** Allocation unit in guest bytes: block, cluster, grain. 1 for raw. */
  readonly unit: number;
  readonly identity: LayerIdentity | undefined;
  /** The snapshot that this layer keeps, when it is one. */
  readonly snapshotName: string | undefined;
  readonly backing: BackingReference | undefined;
  /** How often a page of its mapping was in memory; for formats that keep some there. */
  readonly metadataCounts?: HitCounts;
  /** Present when the layer can be written in place. */
  readonly writer: LayerWriter | undefined;
  /**
   * Where the range `[offset, offset + length)` lives; fills `into` for a first part of it. Same tick when the
   * mapping is cached.
   *
   * @throws VimgError `CORRUPT` when the mapping is damaged, `IO`
   */
  locate(offset: number, length: number, into: Location): MaybePromise<void>;
  /**
   * The whole unit that a COMPRESSED location named: `unitLength` bytes.
   *
   * @throws VimgError `CORRUPT` when the stored bytes do not decompress to exactly that
   */
  decompress(location: Location): Promise<Uint8Array>;
  /**
   * Checks data just read from a DATA location that had `verify` set.
   *
   * @throws VimgError `CORRUPT` when a block's checksum does not match
   */
  verifyRange?(offset: number, length: number): MaybePromise<void>;
  info(): MaybePromise<LayerInfo>;
  /** Idempotent. Flushes what is dirty; throws when that fails; releases the files the layer opened. */
  close(): Promise<void>;
}

/** The writing side of a layer. Ranges lie inside the virtual size. */
export interface LayerWriter {
  /** Zeroing and discarding work on multiples of this; the engine writes the edges as data. */
  readonly zeroUnit: number;
  /** Called before any change; renews the content ID at the first change after an open. */
  begin(): MaybePromise<void>;
  /** Finds or makes a place for a first part of the range. */
  place(offset: number, length: number, into: Placement): MaybePromise<void>;
  /** The bytes of a pending placement (fill included) are written: from now on the layer maps them. */
  placed(placement: Placement): void;
  /** The write of a pending placement failed: the mapping stays as it was. */
  abandon(placement: Placement): void;
  /** Makes an aligned range read as zeroes, freeing its space unless `keepAllocated`. */
  zero(offset: number, length: number, keepAllocated: boolean): MaybePromise<void>;
  /** Stores one whole unit compressed. False when it does not shrink: write it as data. */
  writeCompressed?(offset: number, unit: Uint8Array): Promise<boolean>;
  /**
   * Keeps every place that is mapped now from being reused until `release` of the returned token: taken around
   * transfers that outlast a tick, so that a late write never lands on a block that meanwhile is another's.
   */
  hold?(): number;
  release?(token: number): void;
  /** Makes everything written so far durable: data first, then the mapping. */
  flush(): MaybePromise<void>;
  /**
   * Sets the virtual size, atomically. New space reads as zeroes, also where the layers behind hold something.
   *
   * @param behindSize virtual size of the layer behind, 0 without one
   */
  resize(size: number, behindSize: number): Promise<void>;
}
