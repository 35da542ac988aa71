/** A window on a device: a partition, an area of a volume. It has a fixed size and starts at 0 for who uses it. */
import { invariant } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from './block-device.ts';
import { ForwardingDevice } from './forwarding-device.ts';
import { checkDiscard, checkInside, checkResize, checkWritable } from './range-check.ts';

export interface SubDeviceOptions {
  /** Default: the device's name and where the window starts. */
  readonly name?: string;
  /** Closing the window closes the device. Default false: others may look at it through windows of their own. */
  readonly closeInner?: boolean;
}

export class SubDevice extends ForwardingDevice {
  readonly #start: number;
  readonly #length: number;
  readonly #name: string;
  readonly #limits: DeviceLimits;
  readonly #closeInner: boolean;

  /** The window `[start, start + length)`. @throws VimgError `OUT_OF_BOUNDS` when it passes the end of the device */
  constructor(inner: BlockDevice, start: number, length: number, options: SubDeviceOptions = {}) {
    super(inner);
    checkInside(inner, 'window', start, length);
    const { alignment } = inner.limits;
    invariant(
      start % alignment === 0 && length % alignment === 0,
      'a window must be aligned as its device is',
    );
    this.#start = start;
    this.#length = length;
    this.#name = options.name ?? `${inner.name}+${start}`;
    this.#limits = { ...inner.limits, growable: false };
    this.#closeInner = options.closeInner ?? false;
  }

  override get name(): string {
    return this.#name;
  }

  override get size(): number {
    return this.#length;
  }

  override get limits(): DeviceLimits {
    return this.#limits;
  }

  override pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    checkInside(this, 'read', offset, buffer.length);
    return this.inner.pread(buffer, this.#start + offset);
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    checkWritable(this, 'write', offset, buffer.length);
    return this.inner.pwrite(buffer, this.#start + offset);
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    checkWritable(this, 'write zeroes', offset, length);
    return this.inner.writeZeroes(this.#start + offset, length, options);
  }

  override discard(offset: number, length: number): MaybePromise<void> {
    checkDiscard(this, offset, length);
    return this.inner.discard(this.#start + offset, length);
  }

  override status(offset: number, length: number): MaybePromise<Extent> {
    checkInside(this, 'status', offset, length);
    const extent = this.inner.status(this.#start + offset, length);
    return extent instanceof Promise ? extent.then((found) => this.#shift(found)) : this.#shift(extent);
  }

  #shift(extent: Extent): Extent {
    return { ...extent, offset: extent.offset - this.#start };
  }

  override resize(size: number): void {
    checkResize(this, size, false);
  }

  /** Unknown: the device does not tell what part of its space is the window's. */
  override allocatedBytes(): undefined {
    return undefined;
  }

  override async close(): Promise<void> {
    if (this.#closeInner) await this.inner.close();
  }
}
