/**
 * A layer that takes over what its parent shows through it, as those see it who read the disk meanwhile.
 *
 * Its mapping in memory runs ahead of what is durable. In the top of a disk that does no harm: when a flush fails, the
 * guest is told. Nobody would tell it of a layer behind. So what was copied and not flushed yet is read where it was
 * copied from, and after a failed flush it stays so.
 *
 * Invariant: a range is hidden before its bytes are written, and until a flush covered it.
 */
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import { BEHIND, type Location } from '../../src/image/layer.ts';
import { VvdLayer } from './layer.ts';

/** Guest ranges that were copied since the last flush, in ascending order. */
export class UnflushedCopies {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /** Ranges; neighbours count as one. */
  get count(): number {
    return this.#starts.length;
  }

  /** Adds a range; none that was added begins later. */
  add(start: number, end: number): void {
    const last = this.#ends.length - 1;
    const lastEnd = this.#ends[last];
    if (lastEnd !== undefined && start <= lastEnd) {
      this.#ends[last] = Math.max(lastEnd, end);
      return;
    }
    this.#starts.push(start);
    this.#ends.push(end);
  }

  /** A flush covered all of them. */
  clear(): void {
    this.#starts.length = 0;
    this.#ends.length = 0;
  }

  /** Fits what was located at `offset` to them: hidden, or no longer than to the next one that is. */
  hide(offset: number, into: Location): void {
    const index = this.#firstEndingAfter(offset);
    const start = this.#starts[index];
    if (start === undefined || start >= offset + into.length) return;
    if (start > offset) {
      into.length = start - offset;
      return;
    }
    into.kind = BEHIND;
    into.length = Math.min(into.length, (this.#ends[index] as number) - offset);
    into.reserved = false;
    into.verify = false;
    into.device = undefined;
  }

  #firstEndingAfter(offset: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] as number) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export class MergingLayer extends VvdLayer {
  readonly #copies: UnflushedCopies;

  /** @param layer open for writing, which stays the caller's to write; its data is not verified by checksums any more */
  constructor(layer: VvdLayer, copies: UnflushedCopies) {
    const { file, header, metadata, attributes } = layer;
    super({ file, header, metadata, attributes, writer: undefined, checksums: undefined });
    this.#copies = copies;
  }

  override locate(offset: number, length: number, into: Location): MaybePromise<void> {
    const found = super.locate(offset, length, into);
    if (isPromise(found)) return found.then(() => this.#copies.hide(offset, into));
    this.#copies.hide(offset, into);
  }
}
