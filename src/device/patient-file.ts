/**
 * A file whose writes wait for space: where the storage is full, a write is tried again until it succeeds, instead of
 * failing. Whoever wrote waits meanwhile, and loses nothing; reads go on.
 *
 * A write that found no space changed nothing (block-device.ts), so trying it again is safe. A failed flush is not
 * tried again: what it should have made durable is not known.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { isVimgError, type VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { WriteZeroesOptions } from './block-device.ts';
import type { DiskFile } from './file-system.ts';
import { ForwardingFile } from './forwarding-file.ts';

/** What a process does when storage is full. */
export interface WaitForSpace {
  /** Aborted: whoever waits is told that there is no space. */
  readonly signal: AbortSignal;
  /** A write begins to wait, or goes on after waiting. */
  readonly onWait?: (path: string, waiting: boolean, error: VimgError) => void;
  readonly clock?: Clock;
}

/** Milliseconds between two attempts. */
const PAUSE_MS = 500;

export class PatientFile extends ForwardingFile {
  readonly #policy: WaitForSpace;
  readonly #clock: Clock;
  /** Writes that wait now. */
  #waiting = 0;
  #closing = false;

  constructor(file: DiskFile, policy: WaitForSpace) {
    super(file);
    this.#policy = policy;
    this.#clock = policy.clock ?? systemClock;
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.#patiently(() => this.inner.pwrite(buffer, offset));
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    return this.#patiently(() => this.inner.writeZeroes(offset, length, options));
  }

  override close(): Promise<void> {
    this.#closing = true;
    return this.inner.close();
  }

  #patiently(write: () => MaybePromise<void>): MaybePromise<void> {
    try {
      const writing = write();
      if (isPromise(writing)) return writing.catch((error: unknown) => this.#waitFor(write, error));
    } catch (error) {
      return this.#waitFor(write, error);
    }
  }

  async #waitFor(write: () => MaybePromise<void>, first: unknown): Promise<void> {
    let error = first;
    const { signal, onWait } = this.#policy;
    if (!isVimgError(error, 'NO_SPACE')) throw error;
    if (this.#waiting++ === 0) onWait?.(this.name, true, error);
    try {
      while (isVimgError(error, 'NO_SPACE')) {
        if (signal.aborted || this.#closing) throw error;
        await this.#pause(signal);
        error = await attempt(write);
      }
      if (error !== undefined) throw error;
    } finally {
      if (--this.#waiting === 0 && isVimgError(first)) onWait?.(this.name, false, first);
    }
  }

  /** Until the next attempt, or until nobody wants to wait any more. */
  async #pause(signal: AbortSignal): Promise<void> {
    let wake: () => void = () => undefined;
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    signal.addEventListener('abort', wake, { once: true });
    try {
      await Promise.race([this.#clock.sleep(PAUSE_MS), woken]);
    } finally {
      signal.removeEventListener('abort', wake);
    }
  }
}

/** @returns what it failed with; nothing when it succeeded */
async function attempt(write: () => MaybePromise<void>): Promise<unknown> {
  try {
    await write();
    return undefined;
  } catch (error) {
    return error;
  }
}
