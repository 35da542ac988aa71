/** An open file of a volume as a block device. What it promises is what `BlockDevice` does. */
import { VimgError } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { DeviceLimits, Extent, WriteZeroesOptions } from '../device/block-device.ts';
import type { DiskFile } from '../device/file-system.ts';
import { PendingWork } from '../device/pending-work.ts';
import { checkDiscard, checkInside, checkResize, checkWritable } from '../device/range-check.ts';
import { CLUSTER, PIECE } from './geometry.ts';
import type { OpenInode } from './open-inode.ts';
import { contentStatus, readContent } from './read-content.ts';
import { writeContent } from './write-content.ts';
import { resizeContent, zeroContent } from './zero-content.ts';

export class VimsFile implements DiskFile {
  name: string;
  readonly readOnly: boolean;
  readonly limits: DeviceLimits;
  /** Locks are not a volume's business. */
  readonly locked = false;
  readonly #inode: OpenInode;
  readonly #leave: () => Promise<void>;
  readonly #pending = new PendingWork();
  #closed: Promise<void> | undefined;

  /** @param leave is called once, when it is closed and nothing is under way */
  constructor(name: string, inode: OpenInode, readOnly: boolean, leave: () => Promise<void>) {
    this.name = name;
    this.#inode = inode;
    this.readOnly = readOnly;
    this.limits = { alignment: 1, discardGranularity: PIECE, growable: !readOnly };
    this.#leave = leave;
  }

  get size(): number {
    return this.#inode.size;
  }

  changeLock(mode: 'none' | 'read' | 'write'): Promise<void> {
    if (mode === 'none') return Promise.resolve();
    return Promise.reject(
      new VimgError('UNSUPPORTED', 'A volume by itself has no locks', { path: this.name }),
    );
  }

  pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#checkOpen();
    checkInside(this, 'read', offset, buffer.length);
    return this.#tracked(readContent(this.#inode, buffer, offset));
  }

  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#checkOpen();
    checkWritable(this, 'write', offset, buffer.length);
    return this.#tracked(writeContent(this.#inode, buffer, offset));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): MaybePromise<void> {
    this.#checkOpen();
    checkWritable(this, 'write zeroes', offset, length);
    if (length === 0) return;
    const mode = options.keepAllocated === true ? 'keep' : 'free';
    return this.#pend(zeroContent(this.#inode, offset, length, mode));
  }

  discard(offset: number, length: number): MaybePromise<void> {
    this.#checkOpen();
    checkDiscard(this, offset, length);
    if (length === 0) return;
    return this.#pend(zeroContent(this.#inode, offset, length, 'discard'));
  }

  /** Also makes the changes of names that were made before durable. */
  flush(): MaybePromise<void> {
    this.#checkOpen();
    return this.#tracked(this.#inode.core.metadata.flush());
  }

  status(offset: number, length: number): MaybePromise<Extent> {
    this.#checkOpen();
    checkInside(this, 'status', offset, length);
    return contentStatus(this.#inode, offset, length);
  }

  resize(size: number): MaybePromise<void> {
    this.#checkOpen();
    checkResize(this, size, true);
    return this.#pend(resizeContent(this.#inode, size));
  }

  allocatedBytes(): number {
    this.#checkOpen();
    return this.#inode.clusters * CLUSTER;
  }

  close(): Promise<void> {
    this.#closed ??= this.#pending.idle().then(() => this.#leave());
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #tracked(work: MaybePromise<void>): MaybePromise<void> {
    return work === undefined ? undefined : this.#pending.track(work);
  }

  #pend(work: Promise<void>): Promise<void> {
    return this.#pending.track(work);
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new VimgError('IO', 'the file is closed', { path: this.name });
  }
}
