/**
 * Moving the bytes of one disk into another.
 *
 * What is cached is read and written in the same tick, chunk by chunk. Where the disk has to be waited for, or data to
 * be compressed, several chunks are under way at once and overlap in the thread pool; buffers are taken from a pool of
 * fixed size, so memory does not grow with the disk. Known zeroes are never read, zeroes
 * found in data are not written where the target reads as zeroes anyhow.
 */
import { isVimgError, VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { CopyOffload } from './copy-offload.ts';
import { CopyPlan } from './copy-plan.ts';
import { EventLoopTurns } from './event-loop-turns.ts';
import { throwIfCancelled } from './job.ts';
import type { ProgressMeter } from './progress.ts';
import { findRuns } from './zero-scan.ts';

/** Where a copy goes. Ranges are written at most once each. */
export interface CopyTarget {
  /** Writes begin and end on multiples of this, except at the end of the disk. 1: anywhere. */
  readonly unit: number;
  /** Without a write, every range reads as zeroes. */
  readonly blank: boolean;
  write(offset: number, data: Uint8Array): MaybePromise<void>;
  writeZeroes(offset: number, length: number): MaybePromise<void>;
  /** One whole unit. */
  writeCompressed?(offset: number, unit: Uint8Array): Promise<void>;
}

export interface CopyOptions {
  readonly meter: ProgressMeter;
  readonly signal?: AbortSignal | undefined;
  /** Shortest run of zeroes that is left out, in bytes; 0: everything is written, holes too. */
  readonly sparseSize: number;
  readonly compress: boolean;
  /** Chunks under way at once. */
  readonly parallel: number;
  /**
   * Chunks are written as they come, several at once. Otherwise one after the other, in order, while the next ones are
   * read: writes to one file only wait for each other in the kernel.
   */
  readonly unordered: boolean;
  /** What the target reads as without a write: units equal to it are not stored. */
  readonly backing?: BlockDevice | undefined;
  /** Bytes a second, at most. */
  readonly rateLimit?: number | undefined;
  /** Told of bytes that were handed to the target. */
  readonly onWritten?: ((bytes: number) => void) | undefined;
  /** Tried first for every range of data. Zeroes in it are not looked for. */
  readonly offload?: CopyOffload | undefined;
  /** Ranges that cannot be read become zeroes, and are told here; without it they end the copy. */
  readonly onUnreadable?: ((offset: number, length: number, error: VimgError) => void) | undefined;
}

/** Bytes that are read and written at once: a chunk is written while it is in the processor's cache. */
const CHUNK = 512 * 1024;
/** Bytes of one copy by the kernel: long enough to be cheap, short enough to stop soon. */
const OFFLOADED_CHUNK = 16 * 1024 * 1024;
/** Pieces in which zeroes, and the readable part of a damaged chunk, are sought. */
const SMALL_PIECE = 4096;

/**
 * Copies all of `source`. The target must be at least as large.
 *
 * @returns bytes that were read
 * @throws what reading and writing throw; `CANCELLED`
 */
export async function copyDevice(
  source: BlockDevice,
  target: CopyTarget,
  options: CopyOptions,
): Promise<number> {
  return new CopyJob(source, target, options).run();
}

class CopyJob {
  readonly #source: BlockDevice;
  readonly #target: CopyTarget;
  readonly #options: CopyOptions;
  readonly #chunk: number;
  readonly #free: Buffer[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #startedMs = performance.now();
  readonly #turns = new EventLoopTurns();
  #buffers = 0;
  /** Bytes of all chunks that were started. */
  #started = 0;
  /** The chunk that was started last; it never rejects. */
  #last: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;

  constructor(source: BlockDevice, target: CopyTarget, options: CopyOptions) {
    this.#source = source;
    this.#target = target;
    this.#options = options;
    this.#chunk = options.offload ? OFFLOADED_CHUNK : Math.max(CHUNK, target.unit);
  }

  async run(): Promise<number> {
    const plan = new CopyPlan(this.#source, this.#target.unit, this.#chunk);
    try {
      for (let span = await plan.next(); span !== undefined; span = await plan.next()) {
        if (this.#turns.due) await this.#turns.take();
        this.#throwIfStopped();
        const skipped =
          span.zero && this.#options.sparseSize > 0 && this.#target.blank && !this.#options.backing;
        if (skipped) continue;
        if (span.zero) await this.#copyZeroes(span.offset, span.length);
        else if (await this.#options.offload?.(span.offset, span.length)) this.#offloaded(span.length);
        else await this.#start(span.offset, span.length);
      }
    } finally {
      await Promise.allSettled(this.#running);
    }
    this.#throwIfStopped();
    return this.#started;
  }

  #offloaded(length: number): void {
    this.#started += length;
    this.#options.onWritten?.(length);
    this.#options.meter.add(length);
  }

  #throwIfStopped(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
    throwIfCancelled(this.#options.signal);
  }

  /** Starts a chunk as soon as a buffer is free. */
  async #start(offset: number, length: number): Promise<void> {
    if (this.#options.rateLimit !== undefined) await this.#keepRate(this.#options.rateLimit);
    this.#started += length;
    const buffer = await this.#buffer();
    this.#throwIfStopped();
    const work = this.#copyChunk(offset, buffer.subarray(0, length), this.#last)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#free.push(buffer);
        this.#running.delete(work);
      });
    this.#running.add(work);
    this.#last = work;
  }

  async #buffer(): Promise<Buffer> {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#buffers < this.#options.parallel) {
      this.#buffers++;
      return Buffer.allocUnsafeSlow(this.#chunk);
    }
    while (this.#free.length === 0) await Promise.race(this.#running);
    return this.#free.pop() as Buffer;
  }

  async #copyChunk(offset: number, buffer: Buffer, before: Promise<void>): Promise<void> {
    await this.#read(offset, buffer);
    const { backing, compress, sparseSize, unordered } = this.#options;
    const behind = backing && (await readBehind(backing, offset, buffer.length));
    if (!unordered && !compress) await before;
    if (sparseSize === 0 && !compress && behind === undefined) await this.#target.write(offset, buffer);
    else await this.#writeRuns(offset, buffer, behind);
    this.#options.onWritten?.(buffer.length);
    this.#options.meter.add(buffer.length);
  }

  async #read(offset: number, buffer: Buffer): Promise<void> {
    try {
      const done = this.#source.pread(buffer, offset);
      if (isPromise(done)) await done;
    } catch (error) {
      const { onUnreadable } = this.#options;
      if (onUnreadable === undefined || !isVimgError(error)) throw error;
      await this.#readAround(offset, buffer, onUnreadable);
    }
  }

  async #readAround(
    offset: number,
    buffer: Buffer,
    onUnreadable: (offset: number, length: number, error: VimgError) => void,
  ): Promise<void> {
    for (let at = 0; at < buffer.length; at += SMALL_PIECE) {
      const piece = buffer.subarray(at, at + SMALL_PIECE);
      try {
        await this.#source.pread(piece, offset + at);
      } catch (error) {
        if (!isVimgError(error)) throw error;
        piece.fill(0);
        onUnreadable(offset + at, piece.length, error);
      }
    }
  }

  /** Writes what is data, zeroes what is zero and would not be otherwise, leaves out what stands behind already. */
  async #writeRuns(offset: number, buffer: Buffer, behind: Buffer | undefined): Promise<void> {
    const zeroesCount = behind !== undefined || !this.#target.blank;
    const piece = this.#pieceSize();
    const writes: Promise<void>[] = [];
    try {
      for (const { start, end, kind } of findRuns(buffer, piece, offset % piece, behind)) {
        if (kind === 'data') this.#writeData(offset + start, buffer.subarray(start, end), writes);
        else if (kind === 'zero' && zeroesCount)
          push(writes, this.#target.writeZeroes(offset + start, end - start));
      }
    } finally {
      await settle(writes);
    }
  }

  /** Bytes in which data is told from zeroes. */
  #pieceSize(): number {
    const { unit } = this.#target;
    if (this.#options.compress) return unit;
    return Math.max(unit, this.#options.sparseSize || SMALL_PIECE);
  }

  #writeData(offset: number, data: Buffer, writes: Promise<void>[]): void {
    if (!this.#options.compress) {
      push(writes, this.#target.write(offset, data));
      return;
    }
    if (!this.#target.writeCompressed) {
      throw new VimgError('UNSUPPORTED', 'Compression not supported for this file format');
    }
    for (let at = 0; at < data.length; at += this.#target.unit) {
      push(writes, this.#target.writeCompressed(offset + at, data.subarray(at, at + this.#target.unit)));
    }
  }

  /** A range of the source that is known to be zero. */
  async #copyZeroes(offset: number, length: number): Promise<void> {
    const { backing, sparseSize } = this.#options;
    if (backing !== undefined) return this.#zeroChanges(offset, length, backing);
    if (sparseSize > 0) {
      await this.#target.writeZeroes(offset, length);
      return;
    }
    for (let at = offset; at < offset + length; at += this.#chunk) {
      await this.#start(at, Math.min(this.#chunk, offset + length - at));
      this.#throwIfStopped();
    }
  }

  /** Zeroes what is not zero behind the target. */
  async #zeroChanges(offset: number, length: number, backing: BlockDevice): Promise<void> {
    const end = Math.min(offset + length, backing.size);
    for (let at = offset; at < end; ) {
      const extent = await backing.status(at, end - at);
      if (!extent.zero) {
        const { unit } = this.#target;
        const from = Math.max(offset, Math.floor(at / unit) * unit);
        const to = Math.min(offset + length, Math.ceil((at + extent.length) / unit) * unit);
        await this.#target.writeZeroes(from, to - from);
        at = to;
      } else {
        at += extent.length;
      }
      this.#throwIfStopped();
    }
  }

  async #keepRate(bytesPerSecond: number): Promise<void> {
    const dueMs = this.#startedMs + (this.#started / bytesPerSecond) * 1000;
    for (let left = dueMs - performance.now(); left > 0; left = dueMs - performance.now()) {
      this.#throwIfStopped();
      await new Promise((resolve) => setTimeout(resolve, Math.min(left, 100)));
    }
  }
}

/** What the target's backing holds of a range; zeroes behind its end. */
async function readBehind(backing: BlockDevice, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const readable = Math.max(0, Math.min(length, backing.size - offset));
  if (readable > 0) await backing.pread(buffer.subarray(0, readable), offset);
  return buffer;
}

function push(writes: Promise<void>[], written: MaybePromise<void>): void {
  if (isPromise(written)) writes.push(written);
}

/** Waits for all, so that no buffer is given back while it is written, then throws the first failure. */
async function settle(writes: readonly Promise<void>[]): Promise<void> {
  if (writes.length === 0) return;
  const results = await Promise.allSettled(writes);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
}
