/**
 * One part of a file, of 16,384 blocks: which places in it are in use, and which are used twice.
 *
 *     units    one bit for each block-sized, block-aligned unit that a block takes as a whole: nearly all of them
 *     fine     for 64 MiB at a time, where needed: one bit for each page, for blocks that are not aligned, table
 *              pages and regions; and the ranges that compressed blocks take, in steps of 16 bytes
 *
 * Units are compared with units at once; the rest when the segment is done.
 */
import { COMPRESSED_ALIGNMENT } from './entry.ts';
import { PAGE } from './layout.ts';

export const SEGMENT_UNITS = 16_384;
const UNIT_WORDS: number = SEGMENT_UNITS / 32;
const CHUNK = 64 * 1024 * 1024;
const CHUNK_PAGES: number = CHUNK / PAGE;
const CHUNK_WORDS: number = CHUNK_PAGES / 32;
const CHUNK_GRANULES: number = CHUNK / COMPRESSED_ALIGNMENT;
const PAGE_GRANULES: number = PAGE / COMPRESSED_ALIGNMENT;
/** A packed range is one number: its first granule times this, plus how many. */
const GRANULE_SHIFT: number = CHUNK_GRANULES * 2;
/** What the objects around a typed array take, roughly. */
const OVERHEAD = 512;
const PACKED_FIRST = 64;

/** Takes ranges of bytes that are used more than once. */
export interface ConflictSink {
  add(place: number, length: number): void;
}

/** Takes runs of bytes in use, `[from, to)`. */
export type UsedRun = (from: number, to: number) => void;

interface Chunk {
  readonly words: Int32Array;
  packed: Float64Array;
  packedCount: number;
}

export class PlaceSegment {
  /** Bytes of memory that it takes, roughly. */
  memory: number = UNIT_WORDS * 4 + OVERHEAD;
  readonly #base: number;
  readonly #blockSize: number;
  readonly #conflicts: ConflictSink;
  readonly #units: Int32Array = new Int32Array(UNIT_WORDS);
  readonly #chunks = new Map<number, Chunk>();

  constructor(base: number, blockSize: number, conflicts: ConflictSink) {
    this.#base = base;
    this.#blockSize = blockSize;
    this.#conflicts = conflicts;
  }

  /** Marks whole units. */
  markUnits(first: number, count: number): void {
    setBits(this.#units, first, count, (unit) => {
      this.#conflicts.add(this.#base + unit * this.#blockSize, this.#blockSize);
    });
  }

  /** Marks pages, counted from the start of the segment. */
  markPages(first: number, count: number): void {
    for (let page = first, end = first + count; page < end; ) {
      const index = Math.floor(page / CHUNK_PAGES);
      const within = page - index * CHUNK_PAGES;
      const length = Math.min(end - page, CHUNK_PAGES - within);
      setBits(this.#chunk(index).words, within, length, (bit) => {
        this.#conflicts.add(this.#base + index * CHUNK + bit * PAGE, PAGE);
      });
      page += length;
    }
  }

  #chunk(index: number): Chunk {
    let chunk = this.#chunks.get(index);
    if (!chunk) {
      chunk = { words: new Int32Array(CHUNK_WORDS), packed: NOTHING_PACKED, packedCount: 0 };
      this.#chunks.set(index, chunk);
      this.memory += CHUNK_WORDS * 4 + OVERHEAD;
    }
    return chunk;
  }

  /** Marks a range that may share its pages with others of its kind. In units of 16 bytes from the segment's start. */
  markPacked(first: number, count: number): void {
    for (let granule = first, end = first + count; granule < end; ) {
      const index = Math.floor(granule / CHUNK_GRANULES);
      const within = granule - index * CHUNK_GRANULES;
      const length = Math.min(end - granule, CHUNK_GRANULES - within);
      this.#pushPacked(this.#chunk(index), index, within * GRANULE_SHIFT + length);
      granule += length;
    }
  }

  #pushPacked(chunk: Chunk, index: number, range: number): void {
    if (chunk.packedCount === CHUNK_GRANULES) this.#joinPacked(chunk, index);
    if (chunk.packedCount === chunk.packed.length) {
      const grown = new Float64Array(Math.max(PACKED_FIRST, chunk.packedCount * 2));
      grown.set(chunk.packed);
      this.memory += (grown.length - chunk.packed.length) * 8;
      chunk.packed = grown;
    }
    chunk.packed[chunk.packedCount++] = range;
  }

  /** Sorts what was packed, reports what overlaps, and joins what touches: no more ranges than granules are left. */
  #joinPacked(chunk: Chunk, index: number): void {
    const ranges = chunk.packed.subarray(0, chunk.packedCount).sort();
    let kept = 0;
    let from = 0;
    let to = -1;
    for (const range of ranges) {
      const first = Math.floor(range / GRANULE_SHIFT);
      const end = first + (range % GRANULE_SHIFT);
      if (first < to) this.#conflictGranules(index, first, Math.min(to, end));
      if (first > to) {
        if (to >= 0) ranges[kept++] = from * GRANULE_SHIFT + to - from;
        from = first;
      }
      to = Math.max(to, end);
    }
    if (to >= 0) ranges[kept++] = from * GRANULE_SHIFT + to - from;
    chunk.packedCount = kept;
  }

  #conflictGranules(index: number, first: number, end: number): void {
    const place = this.#base + index * CHUNK + first * COMPRESSED_ALIGNMENT;
    this.#conflicts.add(place, (end - first) * COMPRESSED_ALIGNMENT);
  }

  /** Compares what was not yet, and tells every run in use, ascending. The segment is done. */
  finish(used: UsedRun): void {
    const unitsInChunk = CHUNK / this.#blockSize;
    for (let index = 0; index < SEGMENT_UNITS / unitsInChunk; index++) {
      const chunk = this.#chunks.get(index);
      if (chunk) this.#finishChunk(chunk, index, unitsInChunk, used);
      else this.#finishUnits(index * unitsInChunk, unitsInChunk, used);
    }
  }

  #finishUnits(first: number, count: number, used: UsedRun): void {
    for (let unit = first; unit < first + count; unit++) {
      const word = this.#units[unit >>> 5] as number;
      const place = this.#base + unit * this.#blockSize;
      if (word === -1 && (unit & 31) === 0 && unit + 32 <= first + count) {
        used(place, place + 32 * this.#blockSize);
        unit += 31;
      } else if (((word >>> (unit & 31)) & 1) === 1) {
        used(place, place + this.#blockSize);
      }
    }
  }

  #finishChunk(chunk: Chunk, index: number, unitsInChunk: number, used: UsedRun): void {
    const { words } = chunk;
    const unitPages = this.#blockSize / PAGE;
    const base = this.#base + index * CHUNK;
    for (let i = 0; i < unitsInChunk; i++) {
      const unit = index * unitsInChunk + i;
      if ((((this.#units[unit >>> 5] as number) >>> (unit & 31)) & 1) === 0) continue;
      setBits(words, i * unitPages, unitPages, (bit) => this.#conflicts.add(base + bit * PAGE, PAGE));
    }
    this.#joinPacked(chunk, index);
    const ranges = chunk.packed.subarray(0, chunk.packedCount);
    for (const range of ranges) this.#comparePacked(words, index, range);
    for (const range of ranges) {
      const first = Math.floor(range / GRANULE_SHIFT);
      const firstPage = Math.floor(first / PAGE_GRANULES);
      const lastPage = Math.floor((first + (range % GRANULE_SHIFT) - 1) / PAGE_GRANULES);
      setBits(words, firstPage, lastPage - firstPage + 1, () => undefined);
    }
    for (let page = 0; page < CHUNK_PAGES; page++) {
      const word = words[page >>> 5] as number;
      if ((page & 31) === 0 && (word === -1 || word === 0)) {
        if (word === -1) used(base + page * PAGE, base + (page + 32) * PAGE);
        page += 31;
      } else if (((word >>> (page & 31)) & 1) === 1) {
        used(base + page * PAGE, base + (page + 1) * PAGE);
      }
    }
  }

  /** Parts of a packed range inside pages that something holds as a whole. */
  #comparePacked(words: Int32Array, index: number, range: number): void {
    const first = Math.floor(range / GRANULE_SHIFT);
    const end = first + (range % GRANULE_SHIFT);
    for (let at = first; at < end; ) {
      const page = Math.floor(at / PAGE_GRANULES);
      const next = Math.min(end, (page + 1) * PAGE_GRANULES);
      if ((((words[page >>> 5] as number) >>> (page & 31)) & 1) === 1)
        this.#conflictGranules(index, at, next);
      at = next;
    }
  }
}

const NOTHING_PACKED: Float64Array = new Float64Array(0);

/** Sets bits; those that were set already are told. */
function setBits(words: Int32Array, first: number, count: number, twice: (bit: number) => void): void {
  for (let at = first, end = first + count; at < end; ) {
    const word = at >>> 5;
    const bit = at & 31;
    const bits = Math.min(32 - bit, end - at);
    const mask = bits === 32 ? -1 : ((1 << bits) - 1) << bit;
    const old = words[word] as number;
    words[word] = old | mask;
    if ((old & mask) !== 0) tellBits(word, old & mask, twice);
    at += bits;
  }
}

function tellBits(word: number, bits: number, twice: (bit: number) => void): void {
  for (let bit = 0; bit < 32; bit++) if (((bits >>> bit) & 1) === 1) twice(word * 32 + bit);
}
