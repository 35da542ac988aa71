/**
 * Zeroing and discarding: whole blocks lose their place, parts of blocks are marked, and space can be kept.
 */
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import {
  ALL_SUB_BLOCKS,
  allocatedOf,
  entryAt,
  KIND_COMPRESSED,
  KIND_DATA,
  KIND_UNALLOCATED,
  KIND_ZERO,
  kindOf,
  placeOf,
  runLength,
  setEntry,
  subBlockMask,
  zeroOf,
} from './entry.ts';
import { freeHostSpace } from './host-space.ts';
import { ENTRIES, SUB_BLOCKS } from './layout.ts';
import type { Mapping } from './mapping.ts';
import type { MetadataPage } from './page-cache.ts';

export class BlockZeroer {
  readonly #map: Mapping;
  /** Sub-blocks given up inside mapped blocks since the last flush: their host space can go once that is durable. */
  #unmappedParts = new Map<number, number>();

  constructor(map: Mapping) {
    this.#map = map;
  }

  zero(offset: number, length: number, keepAllocated: boolean): MaybePromise<void> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / this.#map.blockSize);
      const stop = Math.min(end, (block + 1) * this.#map.blockSize);
      const waiting = this.#zeroPart(block, at, stop, keepAllocated);
      if (isPromise(waiting)) {
        const rest = at;
        return waiting.then(() => this.zero(rest, end - rest, keepAllocated));
      }
      at = waiting;
    }
  }

  /**
   * Zeroes from `from` to `stop` in one block.
   *
   * @returns where to go on; or a promise after which to try again
   */
  #zeroPart(block: number, from: number, stop: number, keepAllocated: boolean): MaybePromise<number> {
    this.#map.throwFailure();
    const again = (): number => from;
    if (this.#map.gate.isBusy(block)) return this.#map.gate.wait(block).then(again);
    if (!this.#map.hasRoom) return this.#map.makeRoom().then(again);
    const index = Math.floor(block / ENTRIES);
    const found = this.#map.metadata.table(index);
    if (isPromise(found)) return found.then(again);
    if (!found && !this.#map.hasParent && !keepAllocated) {
      // no table page: everything it would map reads as zeroes
      const span = ENTRIES * this.#map.blockSize;
      const left = Math.ceil(this.#map.header.virtualSize / span) - index;
      return Math.max(stop, (index + this.#map.metadata.absentTables(index, left)) * span);
    }
    const page = found ?? this.#map.metadata.tableForWrite(index);
    if (isPromise(page)) return page.then(again);
    const base = block * this.#map.blockSize;
    const whole =
      from === base && (stop === base + this.#map.blockSize || stop === this.#map.header.virtualSize);
    const at = entryAt(block % ENTRIES);
    if (!whole && kindOf(page.view, at) === KIND_COMPRESSED)
      return this.#map.inflate(page, block).then(again);
    if (whole && !keepAllocated) {
      this.#zeroWhole(page, at);
      return stop;
    }
    if (keepAllocated && !this.#map.hasPlace(page.view, at)) {
      if (kindOf(page.view, at) === KIND_COMPRESSED) this.#zeroWhole(page, at);
      const reserved = this.#reserve(page, block);
      if (isPromise(reserved)) return reserved.then(again);
    }
    const mask = whole
      ? ALL_SUB_BLOCKS
      : subBlockMask((from - base) / this.#map.zeroUnit, Math.ceil((stop - base) / this.#map.zeroUnit) - 1);
    this.#zeroSubBlocks(page, block, mask, keepAllocated);
    return stop;
  }

  /** A block that reads as zeroes: nothing is stored for it, unless what is behind must be hidden. */
  #zeroWhole(page: MetadataPage, at: number): void {
    const { view } = page;
    const kind = kindOf(view, at);
    const target = this.#map.hasParent ? KIND_ZERO : KIND_UNALLOCATED;
    if (kind === target) return;
    this.#map.freeBlock(view, at);
    setEntry(view, at, target, 0, 0, 0);
    this.#map.metadata.changed(page);
  }

  #zeroSubBlocks(page: MetadataPage, block: number, mask: number, keepAllocated: boolean): void {
    const { view } = page;
    const at = entryAt(block % ENTRIES);
    const kind = kindOf(view, at);
    if (kind === KIND_ZERO) return;
    const isData = kind === KIND_DATA;
    const place = isData ? placeOf(view, at) : 0;
    const allocated = isData ? (allocatedOf(view, at) & ~mask) >>> 0 : 0;
    const zero = ((isData ? zeroOf(view, at) : 0) | mask) >>> 0;
    const empty = allocated === 0 && !keepAllocated;
    if (empty && (zero === ALL_SUB_BLOCKS || !this.#map.hasParent)) {
      this.#zeroWhole(page, at);
      return;
    }
    setEntry(view, at, KIND_DATA, place, allocated, zero);
    this.#map.metadata.changed(page);
    if (!keepAllocated && place !== 0) {
      this.#unmappedParts.set(block, ((this.#unmappedParts.get(block) ?? 0) | mask) >>> 0);
    }
  }

  /**
   * Gives a block a place with space taken for it; what it reads stays as it is. The block is busy until then: late
   * zeroes must not meet data.
   */
  #reserve(page: MetadataPage, block: number): MaybePromise<void> {
    const { place } = this.#map.space.takeBlocks(1);
    this.#map.gate.enter(block, 1, page);
    const refused = (error: unknown): never => {
      this.#map.space.giveBack(place);
      this.#map.gate.leave(block);
      throw error;
    };
    try {
      const io = this.#map.file.writeZeroes(place, this.#map.blockSize, { keepAllocated: true });
      if (isPromise(io)) return io.then(() => this.#reserved(page, block, place), refused);
    } catch (error) {
      return refused(error);
    }
    this.#reserved(page, block, place);
  }

  #reserved(page: MetadataPage, block: number, place: number): void {
    this.#map.gate.leave(block);
    this.#map.space.mapped(place);
    const at = entryAt(block % ENTRIES);
    const wasData = kindOf(page.view, at) === KIND_DATA;
    const zero = wasData ? zeroOf(page.view, at) : kindOf(page.view, at) === KIND_ZERO ? ALL_SUB_BLOCKS : 0;
    setEntry(page.view, at, KIND_DATA, place, 0, zero);
    this.#map.metadata.changed(page);
  }

  /** What was given up inside mapped blocks until now; the caller passes it to `punch` once that is durable. */
  takeUnmappedParts(): ReadonlyMap<number, number> {
    const parts = this.#unmappedParts;
    this.#unmappedParts = new Map();
    return parts;
  }

  /** Frees the host space of sub-blocks that a durable transaction gave up and that nobody wrote since. */
  async punch(parts: ReadonlyMap<number, number>): Promise<void> {
    for (const [block, mask] of parts) {
      const page = this.#map.metadata.cachedTable(Math.floor(block / ENTRIES));
      if (!page || this.#map.gate.isBusy(block)) continue;
      const at = entryAt(block % ENTRIES);
      if (kindOf(page.view, at) !== KIND_DATA || placeOf(page.view, at) === 0) continue;
      const unused = (mask & ~allocatedOf(page.view, at)) >>> 0;
      await this.#punchSubBlocks(page, block, unused);
    }
  }

  async #punchSubBlocks(page: MetadataPage, block: number, unused: number): Promise<void> {
    const place = placeOf(page.view, entryAt(block % ENTRIES));
    this.#map.gate.enter(block, 1, page);
    try {
      for (let first = 0; first < SUB_BLOCKS; ) {
        const run = runLength(unused, first);
        const isUnused = ((unused >>> first) & 1) === 1;
        if (isUnused)
          await freeHostSpace(this.#map.file, place + first * this.#map.zeroUnit, run * this.#map.zeroUnit);
        first += run;
      }
    } finally {
      this.#map.gate.leave(block);
    }
  }
}
