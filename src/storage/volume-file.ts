/**
 * An open file of a volume, whichever process has the volume attached: when that one ends, the file is opened again
 * where the volume is attached next, with its lock, and what was not answered is asked again.
 *
 * What was answered and not flushed may be lost when that process is killed. While it is another process, the changes are
 * kept here until they are durable, and made again in the file that was opened again, before anything else is done there.
 */
import { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { DeviceLimits, Extent, WriteZeroesOptions } from '../device/block-device.ts';
import type { DiskFile } from '../device/file-system.ts';
import type { LockMode } from '../host/file-lock.ts';
import type { FileClaim } from './file-claim.ts';
import { PlaceGone } from './place-client.ts';
import { type Change, UnflushedChanges } from './unflushed-changes.ts';

/** A file as it is open now. */
export interface OpenedFile {
  readonly file: DiskFile;
  /** Another process has the volume attached. */
  readonly remote: boolean;
}

/** How a file keeps its place in the volume. */
export interface FilePlace {
  readonly claim: FileClaim;
  /** Opens the file of this name again. @throws VimgError also when another file has the name now */
  reopen(path: string, lock: LockMode): Promise<OpenedFile>;
  /** Names who has the file, if a lock in this mode is not to be had now. @throws VimgError `LOCKED` */
  refuse(path: string, lock: LockMode): Promise<void>;
  onClosed(): void;
}

/** Bytes of changes that are kept: from the first on a flush is under way, from the second on it is waited for. */
const FLUSH_FROM = 8 * 1024 * 1024;
const KEPT_MAX = 32 * 1024 * 1024;

const NOTHING = new Uint8Array(0);

export class VolumeFile implements DiskFile {
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  readonly #place: FilePlace;
  readonly #unflushed = new UnflushedChanges();
  #opened: OpenedFile;
  #flushing: Promise<void> | undefined;
  #reopening: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(opened: OpenedFile, place: FilePlace) {
    this.#opened = opened;
    this.#place = place;
    this.limits = opened.file.limits;
    this.readOnly = opened.file.readOnly;
  }

  get name(): string {
    return this.#opened.file.name;
  }

  set name(name: string) {
    this.#opened.file.name = name;
  }

  get size(): number {
    return this.#opened.file.size;
  }

  get locked(): boolean {
    return this.#opened.file.locked;
  }

  async changeLock(mode: LockMode): Promise<void> {
    const { claim, refuse } = this.#place;
    const before = claim.mode;
    const change = (to: LockMode): Promise<void> => claim.change(to, this.name, () => refuse(this.name, to));
    if (claim.isWeakerThan(mode)) await change(mode);
    try {
      await this.#do((file) => file.changeLock(mode));
    } catch (error) {
      await change(before);
      throw error;
    }
    await change(mode);
  }

  pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.#do((file) => file.pread(buffer, offset));
  }

  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.#change({ buffer, apply: (file, bytes) => file.pwrite(bytes, offset) });
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    return this.#change({ apply: (file) => file.writeZeroes(offset, length, options) });
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return this.#change({ apply: (file) => file.discard(offset, length) });
  }

  resize(size: number): MaybePromise<void> {
    return this.#change({ apply: (file) => file.resize(size) });
  }

  flush(): MaybePromise<void> {
    const { mark } = this.#unflushed;
    const flushing = this.#do((file) => file.flush());
    if (isPromise(flushing)) return flushing.then(() => this.#unflushed.drop(mark));
    this.#unflushed.drop(mark);
  }

  status(offset: number, length: number): MaybePromise<Extent> {
    return this.#do((file) => file.status(offset, length));
  }

  allocatedBytes(): MaybePromise<number | undefined> {
    return this.#do((file) => file.allocatedBytes());
  }

  close(): Promise<void> {
    this.#closed ??= this.#closeNow();
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Opens the file where the volume is attached next, as soon as that can be. What fails is told when it is used. */
  async follow(gone: PlaceGone): Promise<void> {
    await this.#followTo(gone).catch(() => undefined);
  }

  async #closeNow(): Promise<void> {
    await this.#reopening?.catch(() => undefined);
    try {
      await this.#opened.file.close();
    } catch (error) {
      if (!(error instanceof PlaceGone)) throw error; // it was closed with the process that had it
    } finally {
      await this.#place.claim.release();
      this.#place.onClosed();
    }
  }

  #change(change: Change): MaybePromise<void> {
    const changing = this.#do((file) => change.apply(file, change.buffer ?? NOTHING));
    if (isPromise(changing)) return changing.then(() => this.#keep(change));
    return this.#keep(change);
  }

  /** Keeps a change that was answered, and sees to it that these do not become too many. */
  #keep(change: Change): MaybePromise<void> {
    if (!this.#opened.remote) return;
    this.#unflushed.add(change);
    if (this.#unflushed.bytes < FLUSH_FROM) return;
    // a flush that fails makes the next one fail, which is the one that somebody waits for (block-device.ts)
    this.#flushing ??= Promise.resolve(this.flush()).finally(() => {
      this.#flushing = undefined;
    });
    if (this.#unflushed.bytes < KEPT_MAX) this.#flushing.catch(() => undefined);
    else return this.#flushing;
  }

  #do<T>(work: (file: DiskFile) => MaybePromise<T>): MaybePromise<T> {
    const { file } = this.#opened;
    const doing = work(file);
    if (!isPromise(doing)) return doing;
    return doing.catch((error: unknown) => this.#doAgain(work, file, error));
  }

  async #doAgain<T>(work: (file: DiskFile) => MaybePromise<T>, used: DiskFile, first: unknown): Promise<T> {
    let error = first;
    for (let file = used; ; file = this.#opened.file) {
      if (!(error instanceof PlaceGone)) throw error;
      if (file === this.#opened.file) await this.#followTo(error);
      try {
        return await work(this.#opened.file);
      } catch (again) {
        error = again;
      }
    }
  }

  /** The file as it is open where the volume is attached next. */
  #followTo(gone: PlaceGone): Promise<void> {
    this.#reopening ??= this.#openAgain(gone).finally(() => {
      this.#reopening = undefined;
    });
    return this.#reopening;
  }

  async #openAgain(gone: PlaceGone): Promise<void> {
    if (gone.orderly) this.#unflushed.drop(this.#unflushed.mark);
    for (;;) {
      if (this.#closed !== undefined) throw gone;
      if (this.#place.claim.mode === 'none' && this.#unflushed.bytes > 0) throw lost(this.name, gone);
      const opened = await this.#place.reopen(this.name, this.#place.claim.mode);
      try {
        await this.#unflushed.replay(opened.file);
      } catch (error) {
        await opened.file.close().catch(() => undefined); // what went wrong first is told
        if (error instanceof PlaceGone) continue;
        throw error;
      }
      if (!opened.remote) this.#unflushed.drop(this.#unflushed.mark);
      this.#opened = opened;
      return;
    }
  }
}

/** Without a lock another process may have written since: nothing is done again over that. */
function lost(path: string, cause: PlaceGone): VimgError {
  return new VimgError('IO', 'The process that had the volume attached was killed', {
    path,
    hint: 'what was flushed is there; what was written since may be lost: open the file anew',
    cause,
  });
}
