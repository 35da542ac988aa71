/**
 * A regular file or a block device of the host.
 *
 * Small transfers complete in the same tick: the hop through the thread pool costs ten times what a cached read does.
 * Larger reads take what is cached, the rest comes by the pool; still larger transfers are the pool's. On an event loop
 * that must not wait (`blocking: false`) no read waits, and writes go to the pool while the kernel is slow.
 *
 * Invariants: `#fileEnd` ≤ the length of the real file ≤ `#size`, unless someone else cut the file. A read that
 * meets the end of the file before `#fileEnd` found just that, and fails; behind it lies the tail of a write that is
 * still under way, which reads as zeroes.
 */
import { close, fdatasync, fstatSync, ftruncate, ftruncateSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';
import { fromSystemError, VimgError } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import { syncFolder } from '../host/atomic-file.ts';
import { copyFileRange } from '../host/file-copy.ts';
import { readAt, readAtAsync, writeAt, writeAtAsync } from '../host/file-io.ts';
import type { LockMode } from '../host/file-lock.ts';
import { forgetCached } from '../host/file-space.ts';
import { NOT_SUPPORTED, readNowait } from '../host/nowait-read.ts';
import type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from './block-device.ts';
import { FileSpace } from './file-space.ts';
import { FlushQueue } from './flush-queue.ts';
import { type FileOpenOptions, lockDescriptor, type OpenedFile, openFile } from './open-file.ts';
import { PendingWork } from './pending-work.ts';
import { checkDiscard, checkInside, checkResize, checkWritable } from './range-check.ts';

/** Bytes of the largest transfer done in the same tick, on an event loop that serves others. */
const SAME_TICK_MAX = 64 * 1024;
/** The same for who serves nobody: a thread that writes what it has just read takes half the time of two. */
const BLOCKING_SAME_TICK_MAX = 1024 * 1024;
/** A write that took this long sends the next ones through the pool, on an event loop. */
const SLOW_WRITE_MS = 2;
const POOL_WRITES_AFTER_A_SLOW_ONE = 64;

export interface FileDeviceOptions extends FileOpenOptions {
  /** False on an event loop that serves others: nothing waits for the disk then. Default true. */
  readonly blocking?: boolean;
}

export class FileDevice implements BlockDevice {
  name: string;
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  readonly isBlockDevice: boolean;
  readonly #fd: number;
  readonly #blocking: boolean;
  readonly #sameTickMax: number;
  readonly #space: FileSpace;
  #lock: LockMode;
  #locked: boolean;
  #size: number;
  #fileEnd: number;
  /** The folder of a new file, until it was synced. */
  #createdIn: string | undefined;
  readonly #flushes: FlushQueue;
  #poolWrites = 0;
  #nowaitReads = true;
  readonly #pending = new PendingWork();
  #closed: Promise<void> | undefined;

  private constructor(path: string, file: OpenedFile, options: FileDeviceOptions) {
    this.name = options.name ?? path;
    this.readOnly = options.readOnly ?? false;
    this.isBlockDevice = file.isBlockDevice;
    const { discardGranularity } = file;
    this.limits = { alignment: 1, discardGranularity, growable: !file.isBlockDevice && !this.readOnly };
    this.#fd = file.fd;
    this.#blocking = options.blocking ?? true;
    this.#space = new FileSpace(file.fd, file.sector, this.#blocking);
    this.#sameTickMax = this.#blocking ? BLOCKING_SAME_TICK_MAX : SAME_TICK_MAX;
    this.#lock = options.lock ?? 'none';
    this.#locked = file.locked;
    this.#size = file.size;
    this.#fileEnd = file.size;
    if (options.create !== undefined && !file.isBlockDevice) this.#createdIn = dirname(resolve(path));
    // At first there may be writes that an earlier process left unsynced.
    this.#flushes = new FlushQueue(() => this.#sync(), !this.readOnly);
  }

  /**
   * Opens a regular file or a block device.
   *
   * With `create`, the first flush makes the file's name durable too. A lock is taken as QEMU takes it
   * (file-lock.ts), before anything is changed; where the file system has no locks, `locked` says false.
   *
   * @throws VimgError `NOT_FOUND`, `EXISTS`, `READ_ONLY` without permission, `LOCKED` when someone holds the image
   *   (or a block device is mounted), `USAGE` for a directory, FIFO, socket or character device
   */
  static async open(path: string, options: FileDeviceOptions = {}): Promise<FileDevice> {
    return new FileDevice(path, await openFile(path, options), options);
  }

  get size(): number {
    return this.#size;
  }

  get locked(): boolean {
    return this.#locked;
  }

  /** Takes another lock instead of the one held; a refusal leaves that in place. @throws VimgError `LOCKED` */
  async changeLock(mode: LockMode): Promise<void> {
    this.#checkOpen();
    this.#locked = await this.#track('lock', 0, lockDescriptor(this.#fd, this.#lock, mode, this.name));
    this.#lock = mode;
  }

  pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#checkOpen();
    checkInside(this, 'read', offset, buffer.length);
    if (buffer.length > this.#sameTickMax) return this.#readInPool(buffer, offset, 0);
    try {
      if (this.#blocking && buffer.length <= SAME_TICK_MAX) {
        const done = readAt(this.#fd, buffer, offset);
        if (done < buffer.length) this.#readPastEnd(buffer, offset, done, this.#fileEnd);
        return;
      }
      const count = this.#nowaitReads ? readNowait(this.#fd, buffer, offset) : NOT_SUPPORTED;
      if (count === buffer.length) return;
      if (count === NOT_SUPPORTED) this.#nowaitReads = false;
      return this.#readInPool(buffer, offset, Math.max(count, 0));
    } catch (error) {
      throw this.#failed('read', offset, error);
    }
  }

  async #readInPool(buffer: Uint8Array, offset: number, done: number): Promise<void> {
    const fileEnd = this.#fileEnd; // a write that completes meanwhile must not make this read look cut short
    const count = await this.#track('read', offset, readAtAsync(this.#fd, buffer, offset, done));
    if (count < buffer.length) this.#readPastEnd(buffer, offset, count, Math.min(fileEnd, this.#fileEnd));
  }

  /** The file ended within a read: zeroes where a write is still to come, an error where there once was data. */
  #readPastEnd(buffer: Uint8Array, offset: number, done: number, fileEnd: number): void {
    if (offset + done < fileEnd) throw this.#cutShort('read', offset + done);
    buffer.fill(0, done);
  }

  #cutShort(op: string, offset: number): VimgError {
    return new VimgError('IO', `the file was cut short while it was open: it had ${this.#fileEnd} bytes`, {
      op,
      path: this.name,
      offset,
    });
  }

  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#checkOpen();
    checkWritable(this, 'write', offset, buffer.length);
    if (buffer.length === 0) return;
    this.#size = Math.max(this.#size, offset + buffer.length);
    if (buffer.length > this.#sameTickMax || this.#poolWrites > 0) return this.#writeInPool(buffer, offset);
    try {
      if (this.#blocking) writeAt(this.#fd, buffer, offset);
      else this.#writeWatched(buffer, offset);
    } catch (error) {
      throw this.#failed('write', offset, error);
    }
    this.#wrote(offset + buffer.length);
  }

  async #writeInPool(buffer: Uint8Array, offset: number): Promise<void> {
    if (this.#poolWrites > 0) this.#poolWrites--;
    await this.#track('write', offset, writeAtAsync(this.#fd, buffer, offset));
    this.#wrote(offset + buffer.length);
  }

  /** Bytes up to `end` are in the file. Said when a write completed: only then does a flush cover it. */
  #wrote(end: number): void {
    this.#flushes.wrote();
    if (end > this.#fileEnd) this.#fileEnd = end;
    if (end > this.#size) this.#size = end;
  }

  /** Runs a change of space, in the same tick if it can be. */
  #change(op: string, offset: number, work: () => MaybePromise<void>): MaybePromise<void> {
    try {
      const promise = work();
      this.#flushes.wrote();
      if (promise !== undefined) return this.#track(op, offset, promise).then(() => this.#wrote(0));
    } catch (error) {
      throw this.#failed(op, offset, error);
    }
  }

  /** The kernel holds up a writer when too much is dirty (balance_dirty_pages): then the pool waits, not the loop. */
  #writeWatched(buffer: Uint8Array, offset: number): void {
    const start = performance.now();
    writeAt(this.#fd, buffer, offset);
    if (performance.now() - start > SLOW_WRITE_MS) this.#poolWrites = POOL_WRITES_AFTER_A_SLOW_ONE;
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): MaybePromise<void> {
    this.#checkOpen();
    checkWritable(this, 'write zeroes', offset, length);
    if (length === 0) return;
    const keepAllocated = options.keepAllocated ?? false;
    const end = offset + length;
    const oldSize = this.#size;
    return this.#change('write zeroes', offset, () => {
      if (end > oldSize) {
        ftruncateSync(this.#fd, end);
        this.#wrote(end);
      }
      if (keepAllocated || end <= oldSize) return this.#space.zero(offset, length, keepAllocated);
      if (offset < oldSize) return this.#space.zero(offset, oldSize - offset, false);
    });
  }

  discard(offset: number, length: number): MaybePromise<void> {
    this.#checkOpen();
    checkDiscard(this, offset, length);
    return this.#change('discard', offset, () => this.#space.free(offset, length));
  }

  /**
   * Takes space for a range now: writing there cannot fail for want of it. The file grows when it passes the end.
   *
   * @throws VimgError `NO_SPACE`; `UNSUPPORTED` where the file system cannot reserve space
   */
  async allocate(offset: number, length: number): Promise<void> {
    this.#checkOpen();
    checkWritable(this, 'allocate', offset, length);
    if (length === 0) return;
    if (!(await this.#track('allocate', offset, this.#space.reserve(offset, length)))) {
      throw new VimgError('UNSUPPORTED', 'space cannot be reserved on this file system', {
        op: 'allocate',
        path: this.name,
        hint: 'preallocation=full writes zeroes instead',
      });
    }
    this.#wrote(offset + length);
  }

  flush(): MaybePromise<void> {
    this.#checkOpen();
    const done = this.#flushes.request();
    if (done !== undefined) return this.#track('flush', 0, done);
  }

  async #sync(): Promise<void> {
    try {
      await promisify(fdatasync)(this.#fd);
      if (this.#createdIn !== undefined) await syncFolder(this.#createdIn);
      this.#createdIn = undefined;
    } catch (error) {
      throw this.#failed('flush', 0, error);
    }
  }

  status(offset: number, length: number): Extent {
    this.#checkOpen();
    checkInside(this, 'status', offset, length);
    if (length === 0) return { offset, length, zero: false, allocated: true };
    try {
      const run = this.#space.runAt(offset, length);
      // A hole may be the place where data was before someone cut the file.
      if (run.hole && !this.isBlockDevice) {
        const expected = Math.min(this.#fileEnd, offset + run.length);
        if (fstatSync(this.#fd).size < expected) throw this.#cutShort('status', offset);
      }
      return { offset, length: run.length, zero: run.hole, allocated: !run.hole };
    } catch (error) {
      throw this.#failed('status', offset, error);
    }
  }

  resize(size: number): MaybePromise<void> {
    this.#checkOpen();
    checkResize(this, size, !this.isBlockDevice);
    if (size !== this.#size || size !== this.#fileEnd) return this.#resizeNow(size);
  }

  async #resizeNow(size: number): Promise<void> {
    this.#fileEnd = Math.min(this.#fileEnd, size);
    await this.#track('resize', 0, promisify(ftruncate)(this.#fd, size));
    this.#flushes.wrote();
    this.#size = size;
    this.#fileEnd = size;
  }

  /** Lets the host's cache forget what it holds of the file, unless it is not on the disk yet. */
  forgetCached(): void {
    this.#checkOpen();
    forgetCached(this.#fd);
  }

  allocatedBytes(): number {
    this.#checkOpen();
    return this.isBlockDevice ? this.#size : fstatSync(this.#fd).blocks * 512;
  }

  /**
   * Copies a range of another file without moving it through this process (file-copy.ts). Resolves to false, with
   * nothing promised about the target range, where the kernel cannot: copy by reading and writing then.
   */
  async copyFrom(source: FileDevice, sourceOffset: number, offset: number, length: number): Promise<boolean> {
    this.#checkOpen();
    source.#checkOpen();
    checkInside(source, 'copy', sourceOffset, length);
    checkWritable(this, 'copy', offset, length);
    if (length === 0) return true;
    this.#size = Math.max(this.#size, offset + length);
    const copy = copyFileRange(source.#fd, sourceOffset, this.#fd, offset, length);
    const tracked = source.#track('copy', sourceOffset, this.#track('copy', offset, copy));
    this.#flushes.wrote();
    if (!(await tracked)) return false;
    this.#wrote(offset + length);
    return true;
  }

  close(): Promise<void> {
    this.#closed ??= this.#closeNow();
    return this.#closed;
  }

  async #closeNow(): Promise<void> {
    await this.#pending.idle();
    try {
      await promisify(close)(this.#fd);
    } catch (error) {
      throw this.#failed('close', 0, error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new VimgError('IO', 'the device is closed', { path: this.name });
  }

  /** Keeps the descriptor open until `work` is done, and gives its failure a place. */
  async #track<T>(op: string, offset: number, work: Promise<T>): Promise<T> {
    try {
      return await this.#pending.track(work);
    } catch (error) {
      throw this.#failed(op, offset, error);
    }
  }

  #failed(op: string, offset: number, error: unknown): VimgError {
    return fromSystemError(error, { op, path: this.name, offset });
  }
}
