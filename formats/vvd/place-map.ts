/**
 * Which places of a file are in use, and which are used twice, in bounded memory.
 *
 * The file is looked at in segments. When they take more memory than allowed, the map gives up those with the highest
 * places: its window ends there, and the caller marks everything once more for the next window. A disk of ordinary
 * make never needs a second one: 16 TiB in blocks of 128 KiB take 20 MiB.
 *
 * Invariants: inside the window every mark is kept, outside none; a conflict is a range of bytes that was marked more
 * than once.
 */
import { COMPRESSED_ALIGNMENT } from './entry.ts';
import { PAGE } from './layout.ts';
import { PlaceSegment, SEGMENT_UNITS, type UsedRun } from './place-segment.ts';

/** Memory for one window. */
const PLACE_MAP_MEMORY: number = 160 * 1024 * 1024;
/** Conflicts that are kept, to be traced to their owners. */
export const CONFLICTS_MAX = 10_000;

export interface PlaceRange {
  readonly place: number;
  readonly length: number;
}

/** Ranges marked more than once, up to a bound. */
class Conflicts {
  readonly ranges: PlaceRange[] = [];
  leftOut = 0;

  add(place: number, length: number): void {
    const last = this.ranges[this.ranges.length - 1];
    if (last && place === last.place + last.length) {
      this.ranges[this.ranges.length - 1] = { place: last.place, length: last.length + length };
    } else if (this.ranges.length < CONFLICTS_MAX) {
      this.ranges.push({ place, length });
    } else {
      this.leftOut++;
    }
  }
}

export class PlaceMap {
  readonly #unitPages: number;
  readonly #segmentPages: number;
  readonly #memoryLimit: number;
  readonly #conflicts = new Conflicts();
  readonly #segments = new Map<number, PlaceSegment>();
  #memory = 0;
  /** The window, in segments: first one in it, and the first one behind it. */
  #first = 0;
  #end: number = Number.POSITIVE_INFINITY;
  #lastIndex = -1;
  #lastSegment: PlaceSegment | undefined;
  #runFrom = -1;
  #runTo = -1;

  constructor(blockSize: number, memoryLimit: number = PLACE_MAP_MEMORY) {
    this.#unitPages = blockSize / PAGE;
    this.#segmentPages = this.#unitPages * SEGMENT_UNITS;
    this.#memoryLimit = memoryLimit;
  }

  /** Ranges marked more than once, in the order found. */
  get conflicts(): readonly PlaceRange[] {
    return this.#conflicts.ranges;
  }

  get conflictsLeftOut(): number {
    return this.#conflicts.leftOut;
  }

  /** Marks blocks side by side, by the page at which they start. */
  markBlocks(page: number, count: number): void {
    const unitPages = this.#unitPages;
    if (page % unitPages !== 0) {
      this.#markPages(page, count * unitPages);
      return;
    }
    let unit = page / unitPages;
    for (const end = unit + count; unit < end; ) {
      const index = Math.floor(unit / SEGMENT_UNITS);
      const within = unit - index * SEGMENT_UNITS;
      const length = Math.min(end - unit, SEGMENT_UNITS - within);
      const segment = index === this.#lastIndex ? this.#lastSegment : this.#segment(index);
      segment?.markUnits(within, length);
      unit += length;
    }
  }

  /** Marks whole pages, by bytes. */
  mark(place: number, length: number): void {
    this.#markPages(place / PAGE, length / PAGE);
  }

  #markPages(first: number, count: number): void {
    for (let page = first, end = first + count; page < end; ) {
      const index = Math.floor(page / this.#segmentPages);
      const within = page - index * this.#segmentPages;
      const length = Math.min(end - page, this.#segmentPages - within);
      this.#changeSegment(index, (segment) => segment.markPages(within, length));
      page += length;
    }
  }

  /** Marks bytes that may share their first and last page with others of their kind: a compressed block. */
  markPacked(place: number, length: number): void {
    const granulesInSegment = this.#segmentPages * (PAGE / COMPRESSED_ALIGNMENT);
    let granule = place / COMPRESSED_ALIGNMENT;
    for (const end = granule + Math.ceil(length / COMPRESSED_ALIGNMENT); granule < end; ) {
      const index = Math.floor(granule / granulesInSegment);
      const within = granule - index * granulesInSegment;
      const count = Math.min(end - granule, granulesInSegment - within);
      this.#changeSegment(index, (segment) => segment.markPacked(within, count));
      granule += count;
    }
  }

  /** A change after which the segment may take more memory. */
  #changeSegment(index: number, change: (segment: PlaceSegment) => void): void {
    const segment = index === this.#lastIndex ? this.#lastSegment : this.#segment(index);
    if (!segment) return;
    const before = segment.memory;
    change(segment);
    this.#take(segment.memory - before);
  }

  /** The segment, made when it is in the window and not there yet. */
  #segment(index: number): PlaceSegment | undefined {
    if (index < this.#first || index >= this.#end) return undefined;
    let segment = this.#segments.get(index);
    if (!segment) {
      const base = index * this.#segmentPages * PAGE;
      segment = new PlaceSegment(base, this.#unitPages * PAGE, this.#conflicts);
      this.#segments.set(index, segment);
      this.#take(segment.memory);
      if (index >= this.#end) return undefined;
    }
    this.#lastIndex = index;
    this.#lastSegment = segment;
    return segment;
  }

  /** Counts memory; when it is too much, the upper half of the segments is left to the next window. */
  #take(bytes: number): void {
    this.#memory += bytes;
    if (this.#memory <= this.#memoryLimit || this.#segments.size < 2) return;
    const indexes = Float64Array.from(this.#segments.keys()).sort();
    const kept = indexes.length >>> 1;
    this.#end = indexes[kept] as number;
    for (const index of indexes.subarray(kept)) {
      this.#memory -= (this.#segments.get(index) as PlaceSegment).memory;
      this.#segments.delete(index);
    }
    this.#lastIndex = -1;
    this.#lastSegment = undefined;
  }

  /**
   * Ends the window: compares what is left to compare, and tells every run in use, ascending, joined across windows.
   * Then the next window begins, empty.
   *
   * @param used gets `[from, to)`, page aligned
   * @returns whether there is a next window: then everything is to be marked again
   */
  endWindow(used: UsedRun): boolean {
    const join: UsedRun = (from, to) => {
      if (from !== this.#runTo) {
        if (this.#runFrom >= 0) used(this.#runFrom, this.#runTo);
        this.#runFrom = from;
      }
      this.#runTo = to;
    };
    for (const index of Float64Array.from(this.#segments.keys()).sort()) {
      this.#segments.get(index)?.finish(join);
      this.#segments.delete(index);
    }
    this.#memory = 0;
    this.#lastIndex = -1;
    this.#lastSegment = undefined;
    this.#first = this.#end;
    this.#end = Number.POSITIVE_INFINITY;
    if (this.#first !== Number.POSITIVE_INFINITY) return true;
    if (this.#runFrom >= 0) used(this.#runFrom, this.#runTo);
    return false;
  }
}
