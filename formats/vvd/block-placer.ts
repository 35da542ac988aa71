/**
 * Placing writes: a range that is stored already is written in place; another gets new blocks, or sub-blocks of a
 * block that has its place. It is mapped once its bytes are written.
 */
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { Placement } from '../../src/image/layer.ts';
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
import { ENTRIES, SUB_BLOCKS } from './layout.ts';
import type { Mapping } from './mapping.ts';
import type { MetadataPage } from './page-cache.ts';

export class BlockPlacer {
  readonly #map: Mapping;

  constructor(map: Mapping) {
    this.#map = map;
  }

  place(offset: number, length: number, into: Placement): MaybePromise<void> {
    this.#map.throwFailure();
    const block = Math.floor(offset / this.#map.blockSize);
    if (this.#map.gate.isBusy(block))
      return this.#map.gate.wait(block).then(() => this.place(offset, length, into));
    const index = Math.floor(block / ENTRIES);
    const page = this.#map.metadata.cachedTable(index) ?? this.#map.metadata.table(index);
    if (isPromise(page)) return page.then(() => this.place(offset, length, into));
    if (page && this.#placeMapped(page, block, offset, length, into)) return;
    if (!this.#map.hasRoom) {
      return this.#map.makeRoom().then(() => this.place(offset, length, into));
    }
    const table = page ?? this.#map.metadata.tableForWrite(index);
    if (isPromise(table)) return table.then(() => this.place(offset, length, into));
    this.#placeNew(table, block, offset, length, into);
  }

  /** Where the range is stored already, it is written in place. */
  #placeMapped(page: MetadataPage, block: number, offset: number, length: number, into: Placement): boolean {
    const { view } = page;
    const slot = block % ENTRIES;
    const at = entryAt(slot);
    if (kindOf(view, at) !== KIND_DATA) return false;
    const within = offset - block * this.#map.blockSize;
    const subBlock = Math.floor(within / this.#map.zeroUnit);
    const allocated = allocatedOf(view, at);
    if (((allocated >>> subBlock) & 1) === 0) return false;
    const place = placeOf(view, at);
    let run = runLength(allocated, subBlock);
    let stored = (subBlock + run) * this.#map.zeroUnit - within;
    for (let next = 1; subBlock + run === SUB_BLOCKS && stored < length && slot + next < ENTRIES; next++) {
      const nextAt = entryAt(slot + next);
      if (kindOf(view, nextAt) !== KIND_DATA || placeOf(view, nextAt) !== place + next * this.#map.blockSize)
        break;
      if (allocatedOf(view, nextAt) !== ALL_SUB_BLOCKS || this.#map.gate.isBusy(block + next)) break;
      stored += this.#map.blockSize;
      run = SUB_BLOCKS - subBlock;
    }
    this.#answer(into, offset, Math.min(length, stored), place + within);
    into.pending = false;
    return true;
  }

  #answer(into: Placement, offset: number, length: number, deviceOffset: number): void {
    into.offset = offset;
    into.length = length;
    into.device = this.#map.file;
    into.deviceOffset = deviceOffset;
    into.fillBefore = 0;
    into.fillAfter = 0;
    into.pending = true;
  }

  #placeNew(page: MetadataPage, block: number, offset: number, length: number, into: Placement): void {
    const { view } = page;
    const at = entryAt(block % ENTRIES);
    const within = offset - block * this.#map.blockSize;
    const kind = kindOf(view, at);
    if (kind === KIND_DATA && placeOf(view, at) !== 0) {
      this.#placeInBlock(view, at, within, offset, length, into);
      this.#map.gate.enter(block, 1, page);
      return;
    }
    const wanted = kind === KIND_COMPRESSED ? 1 : this.#freshBlocks(view, block, within, length);
    const { place, count } = this.#map.space.takeBlocks(wanted);
    this.#answer(into, offset, Math.min(length, count * this.#map.blockSize - within), place + within);
    const unit = kind === KIND_COMPRESSED ? this.#map.blockSize : this.#map.zeroUnit;
    this.#fillEdges(into, within, unit);
    this.#map.gate.enter(block, count, page);
  }

  /** Sub-blocks of a block that has its place, but does not store them yet. */
  #placeInBlock(
    view: DataView,
    at: number,
    within: number,
    offset: number,
    length: number,
    into: Placement,
  ): void {
    const first = Math.floor(within / this.#map.zeroUnit);
    const end = (first + runLength(allocatedOf(view, at), first)) * this.#map.zeroUnit;
    this.#answer(into, offset, Math.min(length, end - within), placeOf(view, at) + within);
    this.#fillEdges(into, within, this.#map.zeroUnit);
  }

  /** Whole units are stored: the rest of the first and the last is filled with what the guest saw there. */
  #fillEdges(into: Placement, within: number, unit: number): void {
    into.fillBefore = within % unit;
    into.fillAfter = (unit - ((within + into.length) % unit)) % unit;
  }

  /** How many blocks from `block` on are covered by the range, have no place, and are in this page. */
  #freshBlocks(view: DataView, block: number, within: number, length: number): number {
    const covered = Math.ceil((within + length) / this.#map.blockSize);
    const slot = block % ENTRIES;
    let count = 1;
    while (count < covered && slot + count < ENTRIES && !this.#map.gate.isBusy(block + count)) {
      const kind = kindOf(view, entryAt(slot + count));
      if (kind !== KIND_UNALLOCATED && kind !== KIND_ZERO) break;
      count++;
    }
    return count;
  }

  placed(placement: Placement): void {
    const { page, first, count } = this.#map.gate.leave(Math.floor(placement.offset / this.#map.blockSize));
    const start = placement.offset - placement.fillBefore - first * this.#map.blockSize;
    const end = placement.offset + placement.length + placement.fillAfter - first * this.#map.blockSize;
    const base = placement.deviceOffset - (placement.offset - first * this.#map.blockSize);
    let isNew = false;
    for (let i = 0; i < count; i++) {
      const from = Math.max(0, start - i * this.#map.blockSize) / this.#map.zeroUnit;
      const to = Math.min(this.#map.blockSize, end - i * this.#map.blockSize) / this.#map.zeroUnit;
      const mask = subBlockMask(from, Math.ceil(to) - 1);
      isNew = this.#mapBlock(page, (first + i) % ENTRIES, base + i * this.#map.blockSize, mask) || isNew;
    }
    if (isNew) this.#map.space.mapped(base);
    this.#map.metadata.changed(page);
  }

  /** Maps sub-blocks of one block. @returns whether the block got a new place */
  #mapBlock(page: MetadataPage, slot: number, place: number, mask: number): boolean {
    const { view } = page;
    const at = entryAt(slot);
    switch (kindOf(view, at)) {
      case KIND_DATA: {
        const isNew = placeOf(view, at) === 0;
        setEntry(
          view,
          at,
          KIND_DATA,
          place,
          (allocatedOf(view, at) | mask) >>> 0,
          (zeroOf(view, at) & ~mask) >>> 0,
        );
        return isNew;
      }
      case KIND_ZERO:
        setEntry(view, at, KIND_DATA, place, mask, ~mask >>> 0);
        return true;
      case KIND_COMPRESSED:
        this.#map.space.free(placeOf(view, at), allocatedOf(view, at));
        setEntry(view, at, KIND_DATA, place, ALL_SUB_BLOCKS, 0);
        return true;
      default:
        setEntry(view, at, KIND_DATA, place, mask, 0);
        return true;
    }
  }

  abandon(placement: Placement): void {
    const { page, first } = this.#map.gate.leave(Math.floor(placement.offset / this.#map.blockSize));
    const at = entryAt(first % ENTRIES);
    const hasPlace = kindOf(page.view, at) === KIND_DATA && placeOf(page.view, at) !== 0;
    if (!hasPlace)
      this.#map.space.giveBack(placement.deviceOffset - (placement.offset - first * this.#map.blockSize));
  }
}
