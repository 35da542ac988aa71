/**
 * An open file of a volume, whichever process has the volume attached: when that one ends, the file is opened again
 * where the volume is attached next, with its lock, and what was not answered is asked again.
 *
 * Invariant: `#durable` ≤ `#answered`, counts of changes. After a kill with `#durable` < `#answered` the file fails for
 * good: what its user believes to be there may be lost.
 */
import { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { DeviceLimits, Extent, WriteZeroesOptions } from '../device/block-device.ts';
import type { DiskFile } from '../device/file-system.ts';
import type { LockMode } from '../host/file-lock.ts';
import { PlaceGone } from './place-client.ts';

/** Opens the file of this name again. @throws VimgError also when another file has the name now */
export type Reopen = (path: string, lock: LockMode) => Promise<DiskFile>;

export class VolumeFile implements DiskFile {
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  readonly #reopen: Reopen;
  #file: DiskFile;
  #lock: LockMode;
  #answered = 0;
  #durable = 0;
  #lost: VimgError | undefined;
  #reopening: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(file: DiskFile, lock: LockMode, reopen: Reopen) {
    this.#file = file;
    this.#lock = lock;
    this.#reopen = reopen;
    this.limits = file.limits;
    this.readOnly = file.readOnly;
  }

  get name(): string {
    return this.#file.name;
  }

  set name(name: string) {
    this.#file.name = name;
  }

  get size(): number {
    return this.#file.size;
  }

  get locked(): boolean {
    return this.#file.locked;
  }

  async changeLock(mode: LockMode): Promise<void> {
    await this.#do((file) => file.changeLock(mode));
    this.#lock = mode;
  }

  pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.#do((file) => file.pread(buffer, offset));
  }

  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.#change((file) => file.pwrite(buffer, offset));
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    return this.#change((file) => file.writeZeroes(offset, length, options));
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return this.#change((file) => file.discard(offset, length));
  }

  resize(size: number): MaybePromise<void> {
    return this.#change((file) => file.resize(size));
  }

  flush(): MaybePromise<void> {
    const covered = this.#answered;
    const flushed = (): void => {
      this.#durable = Math.max(this.#durable, covered);
    };
    const flushing = this.#do((file) => file.flush());
    if (isPromise(flushing)) return flushing.then(flushed);
    flushed();
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

  async #closeNow(): Promise<void> {
    await this.#reopening?.catch(() => undefined);
    try {
      await this.#file.close();
    } catch (error) {
      if (!(error instanceof PlaceGone)) throw error; // it was closed with the process that had it
    }
  }

  #change(work: (file: DiskFile) => MaybePromise<void>): MaybePromise<void> {
    const changing = this.#do(work);
    if (isPromise(changing)) {
      return changing.then(() => {
        this.#answered++;
      });
    }
    this.#answered++;
  }

  #do<T>(work: (file: DiskFile) => MaybePromise<T>): MaybePromise<T> {
    if (this.#lost) throw this.#lost;
    const file = this.#file;
    const doing = work(file);
    if (!isPromise(doing)) return doing;
    return doing.catch((error: unknown) => this.#doAgain(work, file, error));
  }

  async #doAgain<T>(work: (file: DiskFile) => MaybePromise<T>, used: DiskFile, first: unknown): Promise<T> {
    let error = first;
    for (let file = used; ; file = this.#file) {
      if (!(error instanceof PlaceGone)) throw error;
      if (file === this.#file) await this.#followTo(error);
      try {
        return await work(this.#file);
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
    if (gone.orderly) this.#durable = this.#answered;
    else if (this.#durable < this.#answered) {
      this.#lost = new VimgError('IO', 'The process that had the volume attached was killed', {
        path: this.name,
        hint: 'what was flushed is there; what was written since may be lost: open the disk anew',
        cause: gone,
      });
    }
    if (this.#lost) throw this.#lost;
    if (this.#closed !== undefined) throw gone;
    this.#file = await this.#reopen(this.name, this.#lock);
  }
}
