/**
 * The lock of a file of a volume, held by the process that uses the file itself: a byte of a file of this host.
 *
 * The table of the process that has the volume attached says who holds what, but ends with that process. The claim stays,
 * so nobody else gets a file between that end and the moment when its user has opened it again elsewhere. It goes with
 * the process that holds it, however that ends. Where the machine has no such locks, the table alone decides.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromSystemError, VimgError } from '../base/errors.ts';
import type { LockMode } from '../host/file-lock.ts';
import { SystemCallError } from '../host/libc.ts';
import { isRefusal, isUnsupported, LOCK, setByteLock } from '../host/ofd-lock.ts';
import { findLockHolders } from '../host/processes.ts';

/** Bytes of the lock file below this have other uses. */
const FIRST_BYTE = 2 ** 32;

const TYPES = { none: LOCK.none, read: LOCK.shared, write: LOCK.exclusive } as const;
const STRENGTH = { none: 0, read: 1, write: 2 } as const;

/** A file that is claimed and in nobody's table: its user opens it again soon, or is stuck. */
const WAIT_MS = 5000;
const PAUSE_MS = 20;

export class FileClaim {
  readonly #lockPath: string;
  readonly #byte: number;
  #handle: FileHandle | undefined;
  #mode: LockMode = 'none';

  /**
   * @param lockPath a file of this host, which is there
   * @param identity of the file that is claimed: 48 bits of a hash of it name the byte
   */
  constructor(lockPath: string, identity: string) {
    this.#lockPath = lockPath;
    this.#byte = FIRST_BYTE + createHash('sha256').update(identity).digest().readUIntBE(0, 6);
  }

  get mode(): LockMode {
    return this.#mode;
  }

  /** Whether `mode` is more than what is held. */
  isWeakerThan(mode: LockMode): boolean {
    return STRENGTH[this.#mode] < STRENGTH[mode];
  }

  /**
   * Takes another mode instead of the one held; a refusal leaves that in place.
   *
   * @param refuse throws `LOCKED` naming the holder, when the process that has the volume knows one
   * @throws VimgError what `refuse` throws; `LOCKED` when the file stays claimed by someone whom that one does not know
   */
  async change(mode: LockMode, path: string, refuse: () => Promise<void>): Promise<void> {
    const deadline = performance.now() + WAIT_MS;
    while (!(await this.#tryChange(mode))) {
      await refuse();
      if (performance.now() > deadline) throw this.#stuck(path);
      await sleep(PAUSE_MS * (0.5 + Math.random()));
    }
  }

  /** Lets go of it. */
  async release(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
    this.#mode = 'none';
  }

  /** @returns whether the mode is the one wanted now */
  async #tryChange(mode: LockMode): Promise<boolean> {
    if (mode === this.#mode) return true;
    try {
      this.#handle ??= await open(this.#lockPath, 'r+');
    } catch (error) {
      throw fromSystemError(error, { op: 'lock', path: this.#lockPath });
    }
    const errno = setByteLock(this.#handle.fd, TYPES[mode], this.#byte);
    if (isRefusal(errno)) return false;
    if (errno !== 0 && !isUnsupported(errno)) throw fromSystemError(new SystemCallError('fcntl', errno));
    this.#mode = mode;
    return true;
  }

  #stuck(path: string): VimgError {
    const fd = this.#handle?.fd;
    const [holder] = fd === undefined ? [] : findLockHolders(fd, this.#byte, this.#byte);
    const who = holder ? `process ${holder.pid} (${holder.program})` : 'a process';
    return new VimgError('LOCKED', `the image is in use by ${who}, which does not answer`, {
      op: 'lock',
      path,
      hint: holder ? `stop it; it was started as: ${holder.command}` : 'stop it',
    });
  }
}
