/**
 * A device whose operations complete in an order that a seed chooses: some in the same tick, the others later and
 * out of turn. What must wait for something else has to say so, or a run with some seed shows it.
 *
 * An operation takes effect when it completes, from the buffer as it is then: a caller that gives a buffer away too
 * early is found out as well.
 */

import type { MaybePromise } from '../base/maybe-promise.ts';
import { SeededRandom } from '../base/random.ts';
import type { BlockDevice, Extent, WriteZeroesOptions } from '../device/block-device.ts';
import { ForwardingDevice } from '../device/forwarding-device.ts';

export interface ShuffleOptions {
  /** One in so many operations completes in the same tick. Default 4; 0: none. */
  readonly sameTickOneIn?: number;
}

export class ShuffleDevice extends ForwardingDevice {
  readonly #random: SeededRandom;
  readonly #sameTickOneIn: number;
  readonly #queue: (() => void)[] = [];
  #pumping = false;
  readonly #idle: (() => void)[] = [];

  constructor(inner: BlockDevice, seed: number, options: ShuffleOptions = {}) {
    super(inner);
    this.#random = new SeededRandom(seed);
    this.#sameTickOneIn = options.sameTickOneIn ?? 4;
  }

  /** Operations that have not completed. */
  get underWay(): number {
    return this.#queue.length;
  }

  override pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.#later(() => this.inner.pread(buffer, offset));
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.#later(() => this.inner.pwrite(buffer, offset));
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    return this.#later(() => this.inner.writeZeroes(offset, length, options));
  }

  override discard(offset: number, length: number): MaybePromise<void> {
    return this.#later(() => this.inner.discard(offset, length));
  }

  override flush(): MaybePromise<void> {
    return this.#later(() => this.inner.flush());
  }

  override status(offset: number, length: number): MaybePromise<Extent> {
    return this.#later(() => this.inner.status(offset, length));
  }

  override resize(size: number): MaybePromise<void> {
    return this.#later(() => this.inner.resize(size));
  }

  /** Waits for what is under way. */
  override async close(): Promise<void> {
    while (this.#queue.length > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await this.inner.close();
  }

  #later<T>(work: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#sameTickOneIn > 0 && this.#random.oneIn(this.#sameTickOneIn)) return work();
    return new Promise<T>((resolve, reject) => {
      this.#queue.push(() => {
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      });
      this.#pump();
    });
  }

  /** One operation at a time completes, and everything that follows from it in promises runs before the next. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      const [work] = this.#queue.splice(this.#random.below(this.#queue.length), 1);
      work?.();
      if (this.#queue.length > 0) this.#pump();
      else for (const resolve of this.#idle.splice(0)) resolve();
    });
  }
}
