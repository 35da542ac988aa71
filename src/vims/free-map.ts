/**
 * Which clusters of a group may be given away: a bit for each.
 *
 * Segments are 128 clusters. Files that grow are given whole ones as long as there are any, and what is small shares
 * some: so a cluster here and there does not spoil the room for long runs, and files that are deleted leave whole ones.
 *
 * Invariants: bits behind the end are 1; `free` is the number of zeroes, `wholeSegments` that of segments of zeroes.
 */
import { invariant } from '../base/errors.ts';

/** Clusters of a segment. */
export const SEGMENT = 128;

export class FreeMap {
  /** 1 may not be given away. */
  #bits = new Uint8Array();
  /** Ones of each segment. */
  #taken = new Uint8Array();
  #length = 0;
  #free = 0;
  #wholeSegments = 0;
  /** The last segment that was found. */
  #cursor = 0;
  /** No run is longer; known from the last search that found none of the length it wanted. */
  #longest = Number.POSITIVE_INFINITY;

  constructor(length: number) {
    this.grow(length);
  }

  /** Clusters. */
  get length(): number {
    return this.#length;
  }

  /** Clusters that may be given away. */
  get free(): number {
    return this.#free;
  }

  /** Segments all of whose clusters may be given away. */
  get wholeSegments(): number {
    return this.#wholeSegments;
  }

  /** Takes in clusters behind its end; they may be given away. */
  grow(length: number): void {
    const segments = Math.ceil(length / SEGMENT);
    const bits = new Uint8Array((segments * SEGMENT) / 8).fill(0xff);
    const taken = new Uint8Array(segments).fill(SEGMENT);
    bits.set(this.#bits);
    taken.set(this.#taken);
    this.#bits = bits;
    this.#taken = taken;
    const before = this.#length;
    this.#length = length;
    for (let i = before; i < length; i++) this.give(i);
  }

  isFree(i: number): boolean {
    return (((this.#bits[i >> 3] as number) >> (i & 7)) & 1) === 0;
  }

  take(first: number, count: number): void {
    for (let i = first; i < first + count; i++) {
      invariant(this.isFree(i), 'a cluster is given away once');
      this.#bits[i >> 3] = (this.#bits[i >> 3] as number) | (1 << (i & 7));
      this.#count(i, 1);
    }
  }

  give(i: number): void {
    invariant(i < this.#length && !this.isFree(i), 'a cluster is given back once');
    this.#bits[i >> 3] = (this.#bits[i >> 3] as number) & ~(1 << (i & 7));
    this.#count(i, -1);
    this.#longest = Number.POSITIVE_INFINITY;
  }

  #count(i: number, change: 1 | -1): void {
    const segment = Math.floor(i / SEGMENT);
    const before = this.#taken[segment] as number;
    this.#taken[segment] = before + change;
    this.#free -= change;
    if (before === 0) this.#wholeSegments--;
    if (before + change === 0) this.#wholeSegments++;
  }

  /**
   * The free run that `i` is in, `before` clusters before it and `after` from it on at most. It goes on into another
   * segment only when that is whole: others have their plans with what is left of one.
   */
  runAround(i: number, before: number, after: number): { first: number; length: number } | undefined {
    if (i < 0 || i >= this.#length || !this.isFree(i)) return undefined;
    let first = i;
    while (i - first < before && first > 0 && this.#goesOn(first, first - 1)) first--;
    let end = i + 1;
    while (end - i < after && end < this.#length && this.#goesOn(end - 1, end)) end++;
    return { first, length: end - first };
  }

  #goesOn(from: number, to: number): boolean {
    if (!this.isFree(to)) return false;
    const segment = Math.floor(to / SEGMENT);
    return Math.floor(from / SEGMENT) === segment || this.#taken[segment] === 0;
  }

  /** The first cluster of a whole segment: the next one behind the last that was found, and round. */
  findSegment(): number | undefined {
    if (this.#wholeSegments === 0) return undefined;
    const behind = this.#taken.indexOf(0, this.#cursor);
    this.#cursor = behind < 0 ? this.#taken.indexOf(0) : behind;
    return this.#cursor * SEGMENT;
  }

  /** The first run of `want`; the longest one when there is none of that length, if that is longer than `least`. */
  findRun(want: number, least = 0): { first: number; length: number } | undefined {
    if (Math.min(this.#longest, this.#free) <= least) return undefined;
    let found = { first: 0, length: 0 };
    for (let i = 0; i < this.#length; ) {
      if (this.#bits[i >> 3] === 0xff) i = ((i >> 3) + 1) << 3;
      else if (!this.isFree(i)) i++;
      else {
        let end = i + 1;
        while (end < this.#length && end - i < want && this.isFree(end)) end++;
        if (end - i > found.length) found = { first: i, length: end - i };
        if (found.length >= want) return found;
        i = end;
      }
    }
    this.#longest = found.length;
    return found.length > least ? found : undefined;
  }
}
