/**
 * A device with a limited rate: reads and writes together, or either, pass at so many bytes a second.
 *
 * A token bucket with debt: an operation passes at once while the bucket is not empty and takes its bytes from it,
 * below zero if need be; the next ones wait until the bucket is filled again, in the order they came. So the rate
 * holds on average for transfers of any size, and a burst is at most `burstBytes` plus one transfer.
 */
import { type Clock, systemClock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from './block-device.ts';
import { ForwardingDevice } from './forwarding-device.ts';
import { PendingWork } from './pending-work.ts';

export interface ThrottleOptions {
  readonly bytesPerSecond: number;
  /** Bytes that pass without waiting after a rest. Default: what passes in a tenth of a second. */
  readonly burstBytes?: number;
  /** Which transfers are counted and held up. Default both. */
  readonly on?: 'read' | 'write' | 'both';
  readonly clock?: Clock;
}

export class ThrottleDevice extends ForwardingDevice {
  readonly #bytesPerMs: number;
  readonly #burst: number;
  readonly #on: 'read' | 'write' | 'both';
  readonly #clock: Clock;
  #level: number;
  #filledAtMs: number;
  #queue: Promise<void> = Promise.resolve();
  #waiting = 0;
  readonly #pending = new PendingWork();

  constructor(inner: BlockDevice, options: ThrottleOptions) {
    super(inner);
    invariant(options.bytesPerSecond > 0, 'a rate must be above zero');
    this.#bytesPerMs = options.bytesPerSecond / 1000;
    this.#burst = options.burstBytes ?? options.bytesPerSecond / 10;
    this.#on = options.on ?? 'both';
    this.#clock = options.clock ?? systemClock;
    this.#level = this.#burst;
    this.#filledAtMs = this.#clock.nowMs();
  }

  override pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    if (this.#on === 'write') return this.inner.pread(buffer, offset);
    const turn = this.#take(buffer.length);
    if (turn === undefined) return this.inner.pread(buffer, offset);
    return this.#pending.track(turn.then(() => this.inner.pread(buffer, offset)));
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    if (this.#on === 'read') return this.inner.pwrite(buffer, offset);
    const turn = this.#take(buffer.length);
    if (turn === undefined) return this.inner.pwrite(buffer, offset);
    return this.#pending.track(turn.then(() => this.inner.pwrite(buffer, offset)));
  }

  override async close(): Promise<void> {
    await this.#pending.idle();
    await this.inner.close();
  }

  /** Takes `bytes` from the bucket, now or when it is this operation's turn. */
  #take(bytes: number): Promise<void> | undefined {
    this.#fill();
    if (this.#waiting === 0 && this.#level > 0) {
      this.#level -= bytes;
      return undefined;
    }
    this.#waiting++;
    this.#queue = this.#queue.then(() => this.#waitAndTake(bytes));
    return this.#queue;
  }

  async #waitAndTake(bytes: number): Promise<void> {
    for (this.#fill(); this.#level <= 0; this.#fill()) {
      // At least a millisecond, so that a timer that fires early does not make this spin.
      await this.#clock.sleep(Math.max(1, Math.ceil(-this.#level / this.#bytesPerMs)));
    }
    this.#level -= bytes;
    this.#waiting--;
  }

  #fill(): void {
    const nowMs = this.#clock.nowMs();
    this.#level = Math.min(this.#burst, this.#level + (nowMs - this.#filledAtMs) * this.#bytesPerMs);
    this.#filledAtMs = nowMs;
  }
}
