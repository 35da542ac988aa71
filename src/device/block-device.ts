/**
 * The one interface of everything that holds bytes at offsets: a host file, a block device, memory, several devices
 * joined, an opened disk image, and every filter around one of these.
 *
 * Rules that every implementation keeps (the conformance suite in src/testing holds them):
 *
 * - The caller owns buffers; an operation must not keep one after it completed.
 * - An operation returns nothing when it completed in the same tick, or a promise; it fails by throwing or by
 *   rejecting with a `VimgError`. Operations that are under way at the same time may complete in any order.
 * - A range must lie inside `[0, size)` (else `OUT_OF_BOUNDS`); only `pwrite`, `writeZeroes` of a growable device
 *   may pass the end, and grow it.
 * - `flush` makes every write that completed before it was called durable. After a failed flush nothing is known
 *   to be durable, and every later flush of the same device fails too.
 * - `close` flushes nothing by itself (an image does), is idempotent, and waits for what is under way.
 */
import type { MaybePromise } from '../base/maybe-promise.ts';

/** What a device can take. All in bytes. */
export interface DeviceLimits {
  /** Offsets, lengths and memory of transfers must be multiples of this (1, or a sector for direct I/O). */
  readonly alignment: number;
  /** Granularity at which `discard` really frees space; 0 when it never does. */
  readonly discardGranularity: number;
  /** Whether a write past the end grows the device. */
  readonly growable: boolean;
}

/** What is known of a range, from the question's offset on. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
  /** The range is known to read as zeroes. */
  readonly zero: boolean;
  /** Space is taken for the range. */
  readonly allocated: boolean;
}

export interface WriteZeroesOptions {
  /** Keep space taken for the range (as NBD's NO_HOLE does). Default: free it when possible. */
  readonly keepAllocated?: boolean;
}

export interface BlockDevice {
  /** For messages: a path, a URI, `memory`. */
  readonly name: string;
  /** Bytes. Changes with `resize` and when a growable device is written past its end. */
  readonly size: number;
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  /** Fills `buffer` from `offset` on. */
  pread(buffer: Uint8Array, offset: number): MaybePromise<void>;
  /** Writes `buffer` at `offset`. @throws VimgError `READ_ONLY`, `NO_SPACE`, `IO` */
  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void>;
  /** Makes the range read as zeroes. */
  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void>;
  /** Says that the range is not needed. Afterwards it reads as zeroes or as before, until written again. */
  discard(offset: number, length: number): MaybePromise<void>;
  /** Makes completed writes durable. */
  flush(): MaybePromise<void>;
  /** What is at `offset`: the first extent, `length` long at most and at least 1 byte. Never a wrong `zero`. */
  status(offset: number, length: number): MaybePromise<Extent>;
  /** Sets the size. New space reads as zeroes. @throws VimgError `UNSUPPORTED` for a device of fixed size */
  resize(size: number): MaybePromise<void>;
  /** Bytes of the host's storage taken, when known. */
  allocatedBytes(): MaybePromise<number | undefined>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
