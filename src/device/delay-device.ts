/** A device that takes its time: every operation waits first. Shows what a program does on slow or uneven storage. */
import { type Clock, systemClock } from '../base/clock.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, Extent, WriteZeroesOptions } from './block-device.ts';
import { type DeviceOperation, ForwardingDevice } from './forwarding-device.ts';
import { PendingWork } from './pending-work.ts';

/** Milliseconds that an operation waits: always the same, or asked for each, so that operations overtake others. */
export type Delay = number | ((operation: DeviceOperation) => number);

export class DelayDevice extends ForwardingDevice {
  readonly #delay: Delay;
  readonly #clock: Clock;
  readonly #pending = new PendingWork();

  constructor(inner: BlockDevice, delay: Delay, clock: Clock = systemClock) {
    super(inner);
    this.#delay = delay;
    this.#clock = clock;
  }

  override pread(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#later('read', () => this.inner.pread(buffer, offset));
  }

  override pwrite(buffer: Uint8Array, offset: number): Promise<void> {
    return this.#later('write', () => this.inner.pwrite(buffer, offset));
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Promise<void> {
    return this.#later('zero', () => this.inner.writeZeroes(offset, length, options));
  }

  override discard(offset: number, length: number): Promise<void> {
    return this.#later('discard', () => this.inner.discard(offset, length));
  }

  override flush(): Promise<void> {
    return this.#later('flush', () => this.inner.flush());
  }

  override status(offset: number, length: number): Promise<Extent> {
    return this.#later('status', () => this.inner.status(offset, length));
  }

  override resize(size: number): Promise<void> {
    return this.#later('resize', () => this.inner.resize(size));
  }

  override async close(): Promise<void> {
    await this.#pending.idle();
    await this.inner.close();
  }

  #later<T>(operation: DeviceOperation, work: () => MaybePromise<T>): Promise<T> {
    const ms = typeof this.#delay === 'number' ? this.#delay : this.#delay(operation);
    return this.#pending.track(this.#clock.sleep(ms).then(work));
  }
}
