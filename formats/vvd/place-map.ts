/**
 * Which places of a file are in use, and which are used twice, in bounded memory.
 *
 * The file is looked at in chunks of 64 MiB: a bit for each page; a chunk that is full costs nothing more. Compressed
 * blocks share pages, so they are kept as ranges of 16 bytes and compared when the chunk is done. When the chunks
 * take more memory than allowed, the map gives up those with the highest places: its window ends there, and the
 * caller marks everything once more for the next window.
 *
 * Invariants: inside the window every mark is kept, outside none; a conflict is a range of bytes that was marked more
 * than once.
 */
import { COMPRESSED_ALIGNMENT } from './entry.ts';
import { PAGE } from './layout.ts';

const CHUNK = 64 * 1024 * 1024;
const CHUNK_PAGES: number = CHUNK / PAGE;
const CHUNK_WORDS: number = CHUNK_PAGES / 32;
const CHUNK_GRANULES: number = CHUNK / COMPRESSED_ALIGNMENT;
/** A packed range is one number: its first granule times this, plus how many. */
const GRANULE_SHIFT: number = CHUNK_GRANULES * 2;
const PAGE_GRANULES: number = PAGE / COMPRESSED_ALIGNMENT;
/** Bits, and what the objects around them take. */
const CHUNK_MEMORY: number = CHUNK_WORDS * 4 + 512;
const PACKED_FIRST = 64;
const FULL: Int32Array = new Int32Array(CHUNK_WORDS).fill(-1);
/** Memory for one window. */
export const PLACE_MAP_MEMORY: number = 160 * 1024 * 1024;
/** Conflicts that are kept, to be traced to their owners. */
export const CONFLICTS_MAX = 10_000;

export interface PlaceRange {
  readonly place: number;
  readonly length: number;
}

interface Chunk {
  words: Int32Array;
  /** Pages marked. */
  used: number;
  packed: Float64Array | undefined;
  packedCount: number;
}

export class PlaceMap {
  /** Ranges marked more than once, in the order found. */
  readonly conflicts: PlaceRange[] = [];
  conflictsLeftOut = 0;
  readonly #memoryLimit: number;
  readonly #chunks = new Map<number, Chunk>();
  #memory = 0;
  /** The window, in chunks: first one in it, and the first one behind it. */
  #first = 0;
  #end: number = Number.POSITIVE_INFINITY;
  #lastIndex = -1;
  #lastChunk: Chunk | undefined;
  #runFrom = -1;
  #runTo = -1;

  constructor(memoryLimit: number = PLACE_MAP_MEMORY) {
    this.#memoryLimit = memoryLimit;
  }

  /** Marks whole pages. */
  mark(place: number, length: number): void {
    let page = place / PAGE;
    for (const end = page + length / PAGE; page < end; ) {
      const index = Math.floor(page / CHUNK_PAGES);
      const within = page - index * CHUNK_PAGES;
      const count = Math.min(end - page, CHUNK_PAGES - within);
      const chunk = index === this.#lastIndex ? this.#lastChunk : this.#chunk(index);
      if (chunk) this.#markPages(chunk, index, within, count);
      page += count;
    }
  }

  /** The chunk, made when it is in the window and not there yet. */
  #chunk(index: number): Chunk | undefined {
    if (index < this.#first || index >= this.#end) return undefined;
    let chunk = this.#chunks.get(index);
    if (!chunk) {
      chunk = { words: new Int32Array(CHUNK_WORDS), used: 0, packed: undefined, packedCount: 0 };
      this.#chunks.set(index, chunk);
      this.#take(CHUNK_MEMORY);
      if (index >= this.#end) chunk = undefined;
    }
    this.#lastIndex = index;
    this.#lastChunk = chunk;
    return chunk;
  }

  #markPages(chunk: Chunk, index: number, first: number, count: number): void {
    const { words } = chunk;
    let twice = 0;
    for (let at = first, end = first + count; at < end; ) {
      const word = at >>> 5;
      const bit = at & 31;
      const bits = Math.min(32 - bit, end - at);
      const mask = (bits === 32 ? -1 : (1 << bits) - 1) << bit;
      const old = words[word] as number;
      const both = old & mask;
      if (both !== 0) twice += this.#conflictBits(index, word, both);
      words[word] = old | mask;
      at += bits;
    }
    chunk.used += count - twice;
    if (chunk.used === CHUNK_PAGES && chunk.words !== FULL) {
      chunk.words = FULL;
      this.#memory -= CHUNK_WORDS * 4;
    }
  }

  /** @returns how many pages */
  #conflictBits(index: number, word: number, bits: number): number {
    let count = 0;
    for (let bit = 0; bit < 32; bit++) {
      if (((bits >>> bit) & 1) === 0) continue;
      count++;
      this.#conflict((index * CHUNK_PAGES + word * 32 + bit) * PAGE, PAGE);
    }
    return count;
  }

  #conflict(place: number, length: number): void {
    const last = this.conflicts[this.conflicts.length - 1];
    if (last && place === last.place + last.length) {
      this.conflicts[this.conflicts.length - 1] = { place: last.place, length: last.length + length };
    } else if (this.conflicts.length < CONFLICTS_MAX) {
      this.conflicts.push({ place, length });
    } else {
      this.conflictsLeftOut++;
    }
  }

  /** Marks a range that may share its first and last page with others of its kind. */
  markPacked(place: number, length: number): void {
    let granule = place / COMPRESSED_ALIGNMENT;
    for (const end = granule + Math.ceil(length / COMPRESSED_ALIGNMENT); granule < end; ) {
      const index = Math.floor(granule / CHUNK_GRANULES);
      const within = granule - index * CHUNK_GRANULES;
      const count = Math.min(end - granule, CHUNK_GRANULES - within);
      const chunk = index === this.#lastIndex ? this.#lastChunk : this.#chunk(index);
      if (chunk) this.#pushPacked(chunk, index, within * GRANULE_SHIFT + count);
      granule += count;
    }
  }

  #pushPacked(chunk: Chunk, index: number, range: number): void {
    if (chunk.packedCount === CHUNK_GRANULES) this.#joinPacked(chunk, index);
    const { packed, packedCount } = chunk;
    if (!packed || packedCount === packed.length) {
      const grown = new Float64Array(packed ? packedCount * 2 : PACKED_FIRST);
      if (packed) grown.set(packed);
      chunk.packed = grown;
      this.#take((grown.length - packedCount) * 8);
    }
    (chunk.packed as Float64Array)[packedCount] = range;
    chunk.packedCount++;
  }

  /** Sorts what was packed, reports what overlaps, and joins what touches: no more ranges than granules are left. */
  #joinPacked(chunk: Chunk, index: number): void {
    const ranges = (chunk.packed as Float64Array).subarray(0, chunk.packedCount).sort();
    let kept = 0;
    let from = 0;
    let to = -1;
    for (const range of ranges) {
      const first = Math.floor(range / GRANULE_SHIFT);
      const end = first + (range % GRANULE_SHIFT);
      if (first < to) this.#conflict(placeOfGranule(index, first), granuleBytes(Math.min(to, end) - first));
      if (first > to) {
        if (to >= 0) ranges[kept++] = from * GRANULE_SHIFT + to - from;
        from = first;
      }
      to = Math.max(to, end);
    }
    ranges[kept++] = from * GRANULE_SHIFT + to - from;
    chunk.packedCount = kept;
  }

  /** Counts memory; when it is too much, the upper half of the chunks is left to the next window. */
  #take(bytes: number): void {
    this.#memory += bytes;
    if (this.#memory <= this.#memoryLimit || this.#chunks.size < 2) return;
    const indexes = Float64Array.from(this.#chunks.keys()).sort();
    const kept = indexes.length >>> 1;
    this.#end = indexes[kept] as number;
    for (const index of indexes.subarray(kept)) {
      const chunk = this.#chunks.get(index) as Chunk;
      this.#memory -= 512 + (chunk.words === FULL ? 0 : CHUNK_WORDS * 4) + (chunk.packed?.length ?? 0) * 8;
      this.#chunks.delete(index);
    }
    this.#lastIndex = -1;
    this.#lastChunk = undefined;
  }

  /**
   * Ends the window: compares what was packed, and tells every run of pages in use, ascending, joined across windows.
   * Then the next window begins, empty.
   *
   * @param used gets `[from, to)`, page aligned
   * @returns whether there is a next window: then everything is to be marked again
   */
  endWindow(used: (from: number, to: number) => void): boolean {
    const indexes = Float64Array.from(this.#chunks.keys()).sort();
    for (const index of indexes) {
      const chunk = this.#chunks.get(index) as Chunk;
      if (chunk.packed) this.#settlePacked(chunk, index);
      this.#eachRun(chunk, index, used);
      this.#chunks.delete(index);
    }
    this.#memory = 0;
    this.#lastIndex = -1;
    this.#lastChunk = undefined;
    this.#first = this.#end;
    this.#end = Number.POSITIVE_INFINITY;
    if (this.#first !== Number.POSITIVE_INFINITY) return true;
    if (this.#runFrom >= 0) used(this.#runFrom, this.#runTo);
    return false;
  }

  #settlePacked(chunk: Chunk, index: number): void {
    this.#joinPacked(chunk, index);
    const ranges = (chunk.packed as Float64Array).subarray(0, chunk.packedCount);
    for (const range of ranges) {
      const first = Math.floor(range / GRANULE_SHIFT);
      this.#comparePages(chunk, index, first, first + (range % GRANULE_SHIFT));
    }
    if (chunk.words === FULL) return;
    for (const range of ranges) {
      const first = Math.floor(range / GRANULE_SHIFT);
      const lastPage = Math.floor((first + (range % GRANULE_SHIFT) - 1) / PAGE_GRANULES);
      for (let page = Math.floor(first / PAGE_GRANULES); page <= lastPage; page++) {
        (chunk.words[page >>> 5] as number) |= 1 << (page & 31);
      }
    }
  }

  /** Packed ranges inside pages that something holds as a whole. */
  #comparePages(chunk: Chunk, index: number, first: number, end: number): void {
    for (let at = first; at < end; ) {
      const page = Math.floor(at / PAGE_GRANULES);
      const next = Math.min(end, (page + 1) * PAGE_GRANULES);
      if ((((chunk.words[page >>> 5] as number) >>> (page & 31)) & 1) === 1) {
        this.#conflict(placeOfGranule(index, at), granuleBytes(next - at));
      }
      at = next;
    }
  }

  #eachRun(chunk: Chunk, index: number, used: (from: number, to: number) => void): void {
    const base = index * CHUNK;
    for (let word = 0; word < CHUNK_WORDS; word++) {
      const bits = chunk.words[word] as number;
      if (bits === 0) continue;
      const at = base + word * 32 * PAGE;
      if (bits === -1) {
        this.#extend(at, 32 * PAGE, used);
        continue;
      }
      for (let bit = 0; bit < 32; bit++) {
        if (((bits >>> bit) & 1) === 1) this.#extend(at + bit * PAGE, PAGE, used);
      }
    }
  }

  #extend(at: number, length: number, used: (from: number, to: number) => void): void {
    if (at !== this.#runTo) {
      if (this.#runFrom >= 0) used(this.#runFrom, this.#runTo);
      this.#runFrom = at;
    }
    this.#runTo = at + length;
  }
}

function granuleBytes(granules: number): number {
  return granules * COMPRESSED_ALIGNMENT;
}

function placeOfGranule(chunk: number, granule: number): number {
  return chunk * CHUNK + granuleBytes(granule);
}
