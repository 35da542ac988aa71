/** A device that counts what is asked of it: tests hold drivers to a number of operations, `bench` explains itself. */
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { Extent, WriteZeroesOptions } from './block-device.ts';
import { type DeviceOperation, ForwardingDevice } from './forwarding-device.ts';

export interface OperationCount {
  /** Operations started, failed ones included. */
  operations: number;
  /** Bytes they covered. */
  bytes: number;
}

export type OperationCounts = Record<DeviceOperation, OperationCount>;

export class CountDevice extends ForwardingDevice {
  #counts: OperationCounts = noCounts();

  /** What was counted since the start or the last `reset`; goes on counting. */
  get counts(): Readonly<OperationCounts> {
    return this.#counts;
  }

  /** Starts again from zero, and returns what was counted so far. */
  reset(): Readonly<OperationCounts> {
    const counted = this.#counts;
    this.#counts = noCounts();
    return counted;
  }

  override pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#count('read', buffer.length);
    return this.inner.pread(buffer, offset);
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#count('write', buffer.length);
    return this.inner.pwrite(buffer, offset);
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    this.#count('zero', length);
    return this.inner.writeZeroes(offset, length, options);
  }

  override discard(offset: number, length: number): MaybePromise<void> {
    this.#count('discard', length);
    return this.inner.discard(offset, length);
  }

  override flush(): MaybePromise<void> {
    this.#count('flush', 0);
    return this.inner.flush();
  }

  override status(offset: number, length: number): MaybePromise<Extent> {
    this.#count('status', length);
    return this.inner.status(offset, length);
  }

  override resize(size: number): MaybePromise<void> {
    this.#count('resize', 0);
    return this.inner.resize(size);
  }

  #count(operation: DeviceOperation, bytes: number): void {
    const count = this.#counts[operation];
    count.operations++;
    count.bytes += bytes;
  }
}

function noCounts(): OperationCounts {
  const none = (): OperationCount => ({ operations: 0, bytes: 0 });
  return {
    read: none(),
    write: none(),
    zero: none(),
    discard: none(),
    flush: none(),
    status: none(),
    resize: none(),
  };
}
