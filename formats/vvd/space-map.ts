/**
 * Where free space is.
 *
 * Invariants:
 * - A place is given out only when no durable mapping and no transfer under way refers to it. A freed place waits
 *   for the transaction that unmapped it, then for every transfer that began before, then for its hole; only then
 *   is it free.
 * - What is written out as free is free on disk after that transaction: free now, waiting, or given out but not
 *   mapped yet.
 * - The list on disk is bounded; what does not fit is left out (a leak, already punched), largest extents first.
 */
import { invariant, VimgError } from '../../src/base/errors.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import { roundDown, roundUp } from '../../src/base/size.ts';
import { COMPRESSED_ALIGNMENT } from './entry.ts';
import {
  FREE_EXTENTS_FIRST,
  FREE_EXTENTS_LIMIT,
  FREE_EXTENTS_MORE,
  type FreeExtent,
  freeExtentLayout,
  PAGE,
  PAGE_HEADER,
  PAGE_SPACE,
  type SpaceHead,
  spaceHeadLayout,
} from './layout.ts';
import { newPage } from './page.ts';

interface Freed {
  readonly epoch: number;
  readonly extents: FreeExtent[];
}

/** Frees host space of a range; failing to is not an error. */
export type Punch = (place: number, length: number) => MaybePromise<void>;

export class SpaceMap {
  spaceEnd: number;
  metadataNext: number;
  metadataEnd: number;
  /** Which directory pages were ever written: one bit each, as in the space list head. */
  readonly directoriesWritten: Uint8Array;
  /** Sorted by place, never touching each other. */
  readonly #free: FreeExtent[];
  /** Unmapped since the last transaction. */
  #freedNow: FreeExtent[] = [];
  /** Unmapped by a durable transaction, waiting for transfers that began before it. */
  readonly #waiting: Freed[] = [];
  /** Given out, not mapped yet. */
  readonly #unmapped = new Map<number, number>();
  /** Transfers under way, by the epoch they began in. */
  readonly #holds = new Map<number, number>();
  #epoch = 0;
  #packNext = 0;
  #packEnd = 0;
  readonly #blockSize: number;
  readonly #punch: Punch;

  constructor(
    head: Omit<SpaceHead, 'extentCount' | 'reserved'>,
    free: FreeExtent[],
    blockSize: number,
    punch: Punch,
  ) {
    this.spaceEnd = head.spaceEnd;
    this.metadataNext = head.metadataNext;
    this.metadataEnd = head.metadataEnd;
    this.directoriesWritten = head.directoriesWritten;
    this.#free = free;
    this.#blockSize = blockSize;
    this.#punch = punch;
  }

  /** Free extents, sorted by place. */
  get freeExtents(): readonly FreeExtent[] {
    return this.#free;
  }

  /** Gives out up to `count` adjacent blocks. They are the caller's until `mapped` or `giveBack`. */
  takeBlocks(count: number): { place: number; count: number } {
    const size = this.#blockSize;
    const at = this.#free.findIndex((extent) => extent.length >= size);
    if (at >= 0) {
      const extent = this.#free[at] as FreeExtent;
      const taken = Math.min(count, Math.floor(extent.length / size));
      this.#cut(at, taken * size);
      this.#unmapped.set(extent.place - taken * size, taken * size);
      return { place: extent.place - taken * size, count: taken };
    }
    const place = this.#grow(count * size);
    this.#unmapped.set(place, count * size);
    return { place, count };
  }

  /** Takes the first `length` bytes of free extent `at`; its `place` is then behind what was taken. */
  #cut(at: number, length: number): void {
    const extent = this.#free[at] as FreeExtent;
    extent.place += length;
    extent.length -= length;
    if (extent.length === 0) this.#free.splice(at, 1);
  }

  #grow(length: number): number {
    const place = roundUp(this.spaceEnd, PAGE);
    this.spaceEnd = place + length;
    return place;
  }

  /** Takes `length` bytes behind everything else, for a structure that the header will name. */
  takeRegion(length: number): number {
    return this.#grow(length);
  }

  /** Whether `takeMetadataPage` has a page to give: else it needs another block first. */
  get hasMetadataPage(): boolean {
    return this.metadataNext < this.metadataEnd;
  }

  /** Table pages come from this block from now on; it was given out and is the caller's. */
  useForMetadata(place: number): void {
    this.mapped(place);
    this.metadataNext = place;
    this.metadataEnd = place + this.#blockSize;
  }

  /** A place for one table page. It is mapped in the same tick. */
  takeMetadataPage(): number {
    invariant(this.hasMetadataPage, 'a table page is taken where one is left');
    const place = this.metadataNext;
    this.metadataNext += PAGE;
    return place;
  }

  /** A place for `length` compressed bytes, packed behind the last one. */
  takePacked(length: number): number {
    if (this.#packNext + length > this.#packEnd) {
      this.endPacking();
      const { place } = this.takeBlocks(1);
      this.#unmapped.delete(place);
      this.#packNext = place;
      this.#packEnd = place + this.#blockSize;
    }
    const place = this.#packNext;
    this.#packNext = roundUp(place + length, COMPRESSED_ALIGNMENT);
    return place;
  }

  /** Returns the pages behind the last packed block. */
  endPacking(): void {
    const from = roundUp(this.#packNext, PAGE);
    if (from < this.#packEnd) this.#insert({ place: from, length: this.#packEnd - from });
    this.#packNext = 0;
    this.#packEnd = 0;
  }

  /** What was given out is mapped now. */
  mapped(place: number): void {
    if (!this.#unmapped.delete(place)) throw sharedPlace(place);
  }

  /** What was given out will not be used. */
  giveBack(place: number): void {
    const length = this.#unmapped.get(place);
    if (length === undefined) throw sharedPlace(place);
    this.#unmapped.delete(place);
    this.#insert({ place, length });
  }

  /** The mapping of this range is gone; the place becomes free once that is durable and nothing uses it. */
  free(place: number, length: number): void {
    const from = roundUp(place, PAGE);
    const to = roundDown(place + length, PAGE);
    if (to > from) this.#freedNow.push({ place: from, length: to - from });
  }

  hold(): number {
    this.#holds.set(this.#epoch, (this.#holds.get(this.#epoch) ?? 0) + 1);
    return this.#epoch;
  }

  release(epoch: number): void {
    const left = (this.#holds.get(epoch) ?? 0) - 1;
    if (left > 0) this.#holds.set(epoch, left);
    else this.#holds.delete(epoch);
  }

  /** Starts a transaction: what was unmapped until now belongs to it. Returns what `committed` takes. */
  startTransaction(): FreeExtent[] {
    const extents = this.#freedNow;
    this.#freedNow = [];
    this.#waiting.push({ epoch: this.#epoch, extents });
    this.#epoch++;
    return extents;
  }

  /** Lets go of places freed by durable transactions that no transfer uses any more. */
  settle(durable: readonly FreeExtent[][]): MaybePromise<void> {
    while (this.#waiting.length > 0) {
      const next = this.#waiting[0] as Freed;
      if (!durable.includes(next.extents) || this.#oldestHold() <= next.epoch) return;
      this.#waiting.shift();
      for (const extent of next.extents) {
        const punched = this.#punch(extent.place, extent.length);
        if (isPromise(punched)) return punched.then(() => this.#settleRest(extent, next.extents, durable));
        this.#insert({ ...extent });
      }
    }
  }

  async #settleRest(
    done: FreeExtent,
    extents: FreeExtent[],
    durable: readonly FreeExtent[][],
  ): Promise<void> {
    this.#insert({ ...done });
    for (const extent of extents.slice(extents.indexOf(done) + 1)) {
      await this.#punch(extent.place, extent.length);
      this.#insert({ ...extent });
    }
    await this.settle(durable);
  }

  /** Whether anything freed is still waiting for transfers to end. */
  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  #oldestHold(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const epoch of this.#holds.keys()) oldest = Math.min(oldest, epoch);
    return oldest;
  }

  #insert(extent: FreeExtent): void {
    insertExtent(this.#free, extent);
    const last = this.#free[this.#free.length - 1] as FreeExtent;
    const nothingBehind = this.#waiting.length === 0 && this.#freedNow.length === 0;
    if (nothingBehind && last.place + last.length === this.spaceEnd) {
      this.spaceEnd = last.place;
      this.#free.pop();
    }
  }

  /** The space pages as this transaction writes them, unsealed. `offset`: place of the first. */
  pages(diskUuid: string, offset: number): Uint8Array[] {
    const all: FreeExtent[] = this.#free.map((extent) => ({ ...extent }));
    for (const [place, length] of this.#unmapped) insertExtent(all, { place, length });
    for (const freed of this.#waiting) for (const extent of freed.extents) insertExtent(all, { ...extent });
    const packFrom = roundUp(this.#packNext, PAGE); // what is left to pack compressed blocks into
    if (packFrom < this.#packEnd) insertExtent(all, { place: packFrom, length: this.#packEnd - packFrom });
    const kept = all.length <= FREE_EXTENTS_LIMIT ? all : largest(all, FREE_EXTENTS_LIMIT);
    const pages: Uint8Array[] = [];
    let at = 0;
    do {
      const index = pages.length;
      const page = newPage(PAGE_SPACE, index, diskUuid, offset + index * PAGE);
      let cursor = PAGE_HEADER;
      if (index === 0) {
        const { spaceEnd, metadataNext, metadataEnd, directoriesWritten } = this;
        spaceHeadLayout.encode(
          { spaceEnd, metadataNext, metadataEnd, directoriesWritten, extentCount: kept.length, reserved: 0 },
          page,
          cursor,
        );
        cursor += spaceHeadLayout.size;
      }
      const room = index === 0 ? FREE_EXTENTS_FIRST : FREE_EXTENTS_MORE;
      for (const extent of kept.slice(at, at + room)) {
        freeExtentLayout.encode(extent, page, cursor);
        cursor += freeExtentLayout.size;
      }
      at += room;
      pages.push(page);
    } while (at < kept.length);
    return pages;
  }
}

function largest(extents: FreeExtent[], count: number): FreeExtent[] {
  const kept = extents.toSorted((a, b) => b.length - a.length).slice(0, count);
  return kept.sort((a, b) => a.place - b.place);
}

/**
 * Inserts into a list sorted by place, merging with its neighbours.
 *
 * @throws VimgError `CORRUPT` when a part of it is in the list: two entries of the image named one place, or one named
 *   free space
 */
function insertExtent(list: FreeExtent[], extent: FreeExtent): void {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((list[middle] as FreeExtent).place < extent.place) low = middle + 1;
    else high = middle;
  }
  const before = list[low - 1];
  const after = list[low];
  if (before && before.place + before.length > extent.place) throw sharedPlace(extent.place);
  if (after && extent.place + extent.length > after.place) throw sharedPlace(after.place);
  if (before && before.place + before.length === extent.place) {
    before.length += extent.length;
    if (after && before.place + before.length === after.place) {
      before.length += after.length;
      list.splice(low, 1);
    }
  } else if (after && extent.place + extent.length === after.place) {
    after.place = extent.place;
    after.length += extent.length;
  } else {
    list.splice(low, 0, extent);
  }
}

/** A place with two owners: nothing that this program writes, but an image can come with one. */
function sharedPlace(place: number): VimgError {
  return new VimgError('CORRUPT', `The place ${place} is used twice, or used and free`, { offset: place });
}
