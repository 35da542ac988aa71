/**
 * When to sync, and for whom: the rules of `flush` for a device that has an expensive sync.
 *
 * - Nothing written since the last sync: nothing to do.
 * - One sync runs at a time. Everyone who asks while it runs shares the next, which starts after all their writes
 *   completed (group commit).
 * - After a failed sync every request fails with the same error: the kernel may have dropped the pages that it could
 *   not write, and reports that only once (fsync(2), "EIO").
 */
import type { MaybePromise } from '../base/maybe-promise.ts';

export class FlushQueue {
  readonly #sync: () => Promise<void>;
  #dirty: boolean;
  #failure: { readonly error: unknown } | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** `dirty`: someone may have left writes unsynced before this queue was made. */
  constructor(sync: () => Promise<void>, dirty: boolean) {
    this.#sync = sync;
    this.#dirty = dirty;
  }

  /** Says that a write completed: the next request has something to sync. */
  wrote(): void {
    this.#dirty = true;
  }

  /** Every write said before is durable once this is done. @throws what the first failed sync threw */
  request(): MaybePromise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (this.#next !== undefined) return this.#next;
    if (!this.#dirty) return this.#running; // what it covers is all there is
    if (this.#running === undefined) return this.#start();
    this.#next = this.#running.then(() => {
      this.#next = undefined;
      return this.#start();
    });
    return this.#next;
  }

  #start(): Promise<void> {
    this.#running = this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    this.#dirty = false; // a write that completes from here on says so again
    try {
      await this.#sync();
    } catch (error) {
      this.#failure = { error };
      throw error;
    } finally {
      this.#running = undefined;
    }
  }
}
