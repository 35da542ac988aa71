/** A file with a transaction seen over it, as if that were in place already. */
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice, Extent } from '../../src/device/block-device.ts';
import { ForwardingDevice } from '../../src/device/forwarding-device.ts';
import type { PageImage } from './journal.ts';
import { PAGE } from './layout.ts';

export class TransactionView extends ForwardingDevice {
  /** Sorted by home. */
  readonly #images: readonly PageImage[];
  readonly #end: number;

  constructor(file: BlockDevice, images: readonly PageImage[]) {
    super(file);
    this.#images = images.toSorted((a, b) => a.home - b.home);
    const last = this.#images[this.#images.length - 1];
    this.#end = last ? last.home + PAGE : 0;
  }

  /** The last page may lie past the end of the file until it is in place. */
  override get size(): number {
    return Math.max(this.inner.size, this.#end);
  }

  override pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    const inside = Math.max(0, Math.min(buffer.length, this.inner.size - offset));
    buffer.fill(0, inside);
    const io = inside > 0 ? this.inner.pread(buffer.subarray(0, inside), offset) : undefined;
    if (isPromise(io)) return io.then(() => this.#cover(buffer, offset));
    this.#cover(buffer, offset);
  }

  #cover(buffer: Uint8Array, offset: number): void {
    const end = offset + buffer.length;
    for (let i = this.#firstBehind(offset - PAGE); i < this.#images.length; i++) {
      const { home, page } = this.#images[i] as PageImage;
      if (home >= end) return;
      const from = Math.max(0, offset - home);
      const to = Math.min(PAGE, end - home);
      buffer.set(page.subarray(from, to), home + from - offset);
    }
  }

  /** Index of the first image whose home is behind `offset`. */
  #firstBehind(offset: number): number {
    let low = 0;
    let high = this.#images.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#images[middle] as PageImage).home > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  override status(offset: number, length: number): MaybePromise<Extent> {
    const next = this.#images[this.#firstBehind(offset - PAGE)]?.home ?? Number.POSITIVE_INFINITY;
    const asked = Math.min(length, next - offset, this.inner.size - offset);
    if (asked > 0) return this.inner.status(offset, asked);
    return { offset, length, zero: false, allocated: true };
  }
}
