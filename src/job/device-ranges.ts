/**
 * Walking a device's map: neighbouring extents of one kind become one range. Nothing is read but metadata, and
 * nothing is kept, so a disk of any size and fragmentation costs the same memory.
 */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, Extent } from '../device/block-device.ts';

/** A part of a device: known to read as zeroes, or holding data. Bytes. */
export interface DeviceRange {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
}

/** Walks `[offset, end)` of a device, range by range. */
export class RangeWalker {
  readonly #device: BlockDevice;
  readonly #end: number;
  readonly #longest: number;
  #offset: number;
  /** The extent that ended the last range, not yet handed out. */
  #ahead: Extent | undefined;

  /** @param longest ranges of data are cut at this length, so that a caller gets to work early */
  constructor(device: BlockDevice, offset: number, end: number, longest: number = Number.POSITIVE_INFINITY) {
    this.#device = device;
    this.#offset = offset;
    this.#end = end;
    this.#longest = longest;
  }

  /** The next range, or nothing at the end. Not to be called again before it answered. */
  async next(): Promise<DeviceRange | undefined> {
    const start = this.#offset;
    if (start >= this.#end) return undefined;
    const asked = this.#extent(start);
    const first = isPromise(asked) ? await asked : asked;
    let end = first.offset + first.length;
    while (end < this.#end && (first.zero || end - start < this.#longest)) {
      const answer = this.#extent(end);
      const extent = isPromise(answer) ? await answer : answer;
      if (extent.zero !== first.zero) {
        this.#ahead = extent;
        break;
      }
      end += extent.length;
    }
    this.#offset = end;
    return { offset: start, length: end - start, zero: first.zero };
  }

  #extent(offset: number): MaybePromise<Extent> {
    const ahead = this.#ahead;
    if (ahead !== undefined && ahead.offset === offset) return ahead;
    return this.#device.status(offset, this.#end - offset);
  }
}

/** Bytes of a device that are not known to read as zeroes. */
export async function countDataBytes(device: BlockDevice, check: () => void): Promise<number> {
  const walker = new RangeWalker(device, 0, device.size);
  let bytes = 0;
  for (let range = await walker.next(); range !== undefined; range = await walker.next()) {
    check();
    if (!range.zero) bytes += range.length;
  }
  return bytes;
}
