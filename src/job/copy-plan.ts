/**
 * What a copy has to do, in order: spans of data to be read and written, spans known to be zero. Spans of data begin
 * and end on units of the target (or at the end of the disk), and no unit is in two of them: a target that stores
 * whole units, each once, needs no more.
 */
import { roundDown, roundUp } from '../base/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { type DeviceRange, RangeWalker } from './device-ranges.ts';

export class CopyPlan {
  readonly #walker: RangeWalker;
  readonly #size: number;
  readonly #unit: number;
  readonly #chunk: number;
  /** Everything before it is handed out. */
  #done = 0;
  #left: DeviceRange | undefined;

  /**
   * @param unit the target's unit, 1 for any
   * @param chunk longest span of data, a multiple of `unit`
   */
  constructor(source: BlockDevice, unit: number, chunk: number) {
    this.#walker = new RangeWalker(source, 0, source.size, 64 * chunk);
    this.#size = source.size;
    this.#unit = unit;
    this.#chunk = chunk;
  }

  /** The next span, or nothing at the end. */
  async next(): Promise<DeviceRange | undefined> {
    for (;;) {
      const span = this.#left ?? (await this.#nextSpan());
      if (span === undefined) return undefined;
      const length = span.zero
        ? span.length
        : Math.min(span.length, this.#chunkEnd(span.offset) - span.offset);
      const rest = span.length - length;
      this.#left = rest > 0 ? { offset: span.offset + length, length: rest, zero: span.zero } : undefined;
      if (length > 0) return { offset: span.offset, length, zero: span.zero };
    }
  }

  /** Chunks end on multiples of their size, so that they meet the same blocks of source and target. */
  #chunkEnd(offset: number): number {
    return roundDown(offset, this.#chunk) + this.#chunk;
  }

  async #nextSpan(): Promise<DeviceRange | undefined> {
    const range = await this.#walker.next();
    if (range === undefined) return undefined;
    const rangeEnd = range.offset + range.length;
    const start = range.zero ? roundUp(range.offset, this.#unit) : roundDown(range.offset, this.#unit);
    const end =
      range.zero && rangeEnd < this.#size ? roundDown(rangeEnd, this.#unit) : roundUp(rangeEnd, this.#unit);
    const offset = Math.max(this.#done, start);
    const length = Math.max(0, Math.min(end, this.#size) - offset);
    this.#done = Math.max(this.#done, offset + length);
    return { offset, length, zero: range.zero };
  }
}
