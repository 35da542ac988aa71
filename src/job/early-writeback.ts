/**
 * Has the host write a new image to its disk while the copy still runs, so that the flush at the end finds little to
 * do. One flush at a time, in the thread pool. A flush that fails is told by the last one: after a failure none
 * succeeds (block-device.ts).
 */
import type { BlockDevice } from '../device/block-device.ts';

/** Bytes written between two flushes: long transfers, and seldom enough to cost nothing. */
const INTERVAL = 128 * 1024 * 1024;

export class EarlyWriteback {
  readonly #device: BlockDevice;
  #written = 0;
  #running: Promise<void> | undefined;

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  /** Counts bytes that were written, and starts a flush now and then. */
  wrote(bytes: number): void {
    this.#written += bytes;
    if (this.#written < INTERVAL || this.#running !== undefined) return;
    this.#written = 0;
    this.#running = this.#flush();
  }

  /** Waits for the flush under way. */
  async settle(): Promise<void> {
    await this.#running;
  }

  async #flush(): Promise<void> {
    try {
      await this.#device.flush();
    } catch {
      // the flush at the end fails for the same reason, and its failure is reported
    } finally {
      this.#running = undefined;
    }
  }
}
