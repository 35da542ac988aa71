/**
 * The base of every filter: a device that passes everything on to another one. A filter overrides what it changes.
 *
 * A filter owns the device it wraps: closing it closes that too.
 */
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from './block-device.ts';

/** The operations of a device that filters tell apart. */
export type DeviceOperation = 'read' | 'write' | 'zero' | 'discard' | 'flush' | 'status' | 'resize';

export class ForwardingDevice implements BlockDevice {
  protected readonly inner: BlockDevice;

  constructor(inner: BlockDevice) {
    this.inner = inner;
  }

  get name(): string {
    return this.inner.name;
  }

  get size(): number {
    return this.inner.size;
  }

  get limits(): DeviceLimits {
    return this.inner.limits;
  }

  get readOnly(): boolean {
    return this.inner.readOnly;
  }

  pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.inner.pread(buffer, offset);
  }

  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    return this.inner.pwrite(buffer, offset);
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    return this.inner.writeZeroes(offset, length, options);
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return this.inner.discard(offset, length);
  }

  flush(): MaybePromise<void> {
    return this.inner.flush();
  }

  status(offset: number, length: number): MaybePromise<Extent> {
    return this.inner.status(offset, length);
  }

  resize(size: number): MaybePromise<void> {
    return this.inner.resize(size);
  }

  allocatedBytes(): MaybePromise<number | undefined> {
    return this.inner.allocatedBytes();
  }

  close(): Promise<void> {
    return this.inner.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
