/**
 * Writing a VVD layer: makes places, maps them once their data is written, zeroes, compresses, flushes.
 *
 * The mapping in memory runs ahead of the one on disk; metadata.ts brings it there, after the data.
 */
import type { VimgError } from '../../src/base/errors.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import { newUuid } from '../../src/binary/uuid.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { LayerWriter, Placement } from '../../src/image/layer.ts';
import { BlockGate } from './block-gate.ts';
import { compressBlock, decompressBlock } from './compression.ts';
import {
  ALL_SUB_BLOCKS,
  allocatedOf,
  clearEntry,
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
import { writeFirstHeader, writeHeader } from './header.ts';
import { cutFile, freeHostSpace } from './host-space.ts';
import { ENTRIES, type Header, PAGE, STATE_CLEAN, STATE_DIRTY, SUB_BLOCKS } from './layout.ts';
import type { Metadata, MetadataPage } from './metadata.ts';
import { growDisk, shrinkDisk } from './resize.ts';
import type { SpaceMap } from './space-map.ts';

export class VvdWriter implements LayerWriter {
  readonly zeroUnit: number;
  readonly file: BlockDevice;
  readonly header: Header;
  readonly metadata: Metadata;
  readonly #space: SpaceMap;
  readonly #fresh: boolean;
  readonly #keepContentId: boolean;
  readonly #gate = new BlockGate();
  readonly #blockSize: number;
  readonly #hasParent: boolean;
  /** Sub-blocks given up inside mapped blocks since the last flush: their host space can go once that is durable. */
  #unmappedParts = new Map<number, number>();
  #begun = false;
  #beginning: Promise<void> | undefined;

  constructor(
    metadata: Metadata,
    space: SpaceMap,
    options: { fresh?: boolean; keepContentId?: boolean } = {},
  ) {
    this.file = metadata.file;
    this.header = metadata.header;
    this.metadata = metadata;
    this.#space = space;
    this.#fresh = options.fresh ?? false;
    this.#keepContentId = options.keepContentId ?? false;
    this.#blockSize = 2 ** this.header.blockShift;
    this.zeroUnit = this.#blockSize / SUB_BLOCKS;
    this.#hasParent = this.header.parentPathLength > 0;
  }

  /** The first change after an open: a new content ID and the dirty mark are durable before any byte changes. */
  begin(): MaybePromise<void> {
    if (this.#begun) return;
    this.#beginning ??= this.#begin();
    return this.#beginning;
  }

  async #begin(): Promise<void> {
    const { header, file } = this;
    if (!this.#keepContentId) header.contentId = newUuid();
    if (!this.#fresh) {
      header.state = STATE_DIRTY;
      header.sequence = this.metadata.sequence;
      // the journal's space is taken now, so that a full disk is met here and not in a transaction
      await file.writeZeroes(header.journalOffset, 2 * header.journalSlotPages * PAGE, {
        keepAllocated: true,
      });
      await writeHeader(file, header);
    }
    this.#begun = true;
  }

  place(offset: number, length: number, into: Placement): MaybePromise<void> {
    this.#throwFailure();
    const block = Math.floor(offset / this.#blockSize);
    if (this.#gate.isBusy(block)) return this.#gate.wait(block).then(() => this.place(offset, length, into));
    const index = Math.floor(block / ENTRIES);
    const page = this.metadata.cachedTable(index) ?? this.metadata.table(index);
    if (isPromise(page)) return page.then(() => this.place(offset, length, into));
    if (page && this.#placeMapped(page, block, offset, length, into)) return;
    if (!this.metadata.hasRoom(this.#gate.size + 1)) {
      return this.#makeRoom().then(() => this.place(offset, length, into));
    }
    const table = page ?? this.metadata.tableForWrite(index);
    if (isPromise(table)) return table.then(() => this.place(offset, length, into));
    this.#placeNew(table, block, offset, length, into);
  }

  /** Ends when the next transaction has room for what is being placed. */
  async #makeRoom(): Promise<void> {
    if (this.metadata.hasChanges) await this.metadata.commit();
    else await this.#gate.waitAny();
  }

  /** Where the range is stored already, it is written in place. */
  #placeMapped(page: MetadataPage, block: number, offset: number, length: number, into: Placement): boolean {
    const { view } = page;
    const slot = block % ENTRIES;
    const at = entryAt(slot);
    if (kindOf(view, at) !== KIND_DATA) return false;
    const within = offset - block * this.#blockSize;
    const subBlock = Math.floor(within / this.zeroUnit);
    const allocated = allocatedOf(view, at);
    if (((allocated >>> subBlock) & 1) === 0) return false;
    const place = placeOf(view, at);
    let run = runLength(allocated, subBlock);
    let stored = (subBlock + run) * this.zeroUnit - within;
    for (let next = 1; subBlock + run === SUB_BLOCKS && stored < length && slot + next < ENTRIES; next++) {
      const nextAt = entryAt(slot + next);
      if (kindOf(view, nextAt) !== KIND_DATA || placeOf(view, nextAt) !== place + next * this.#blockSize)
        break;
      if (allocatedOf(view, nextAt) !== ALL_SUB_BLOCKS || this.#gate.isBusy(block + next)) break;
      stored += this.#blockSize;
      run = SUB_BLOCKS - subBlock;
    }
    this.#answer(into, offset, Math.min(length, stored), place + within);
    into.pending = false;
    return true;
  }

  #answer(into: Placement, offset: number, length: number, deviceOffset: number): void {
    into.offset = offset;
    into.length = length;
    into.device = this.file;
    into.deviceOffset = deviceOffset;
    into.fillBefore = 0;
    into.fillAfter = 0;
    into.pending = true;
  }

  #placeNew(page: MetadataPage, block: number, offset: number, length: number, into: Placement): void {
    const { view } = page;
    const at = entryAt(block % ENTRIES);
    const within = offset - block * this.#blockSize;
    const kind = kindOf(view, at);
    if (kind === KIND_DATA && placeOf(view, at) !== 0) {
      this.#placeInBlock(view, at, within, offset, length, into);
      this.#gate.enter(block, 1, page);
      return;
    }
    const wanted = kind === KIND_COMPRESSED ? 1 : this.#freshBlocks(view, block, within, length);
    const { place, count } = this.#space.takeBlocks(wanted);
    this.#answer(into, offset, Math.min(length, count * this.#blockSize - within), place + within);
    const unit = kind === KIND_COMPRESSED ? this.#blockSize : this.zeroUnit;
    this.#fillEdges(into, within, unit);
    this.#gate.enter(block, count, page);
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
    const first = Math.floor(within / this.zeroUnit);
    const end = (first + runLength(allocatedOf(view, at), first)) * this.zeroUnit;
    this.#answer(into, offset, Math.min(length, end - within), placeOf(view, at) + within);
    this.#fillEdges(into, within, this.zeroUnit);
  }

  /** Whole units are stored: the rest of the first and the last is filled with what the guest saw there. */
  #fillEdges(into: Placement, within: number, unit: number): void {
    into.fillBefore = within % unit;
    into.fillAfter = (unit - ((within + into.length) % unit)) % unit;
  }

  /** How many blocks from `block` on are covered by the range, have no place, and are in this page. */
  #freshBlocks(view: DataView, block: number, within: number, length: number): number {
    const covered = Math.ceil((within + length) / this.#blockSize);
    const slot = block % ENTRIES;
    let count = 1;
    while (count < covered && slot + count < ENTRIES && !this.#gate.isBusy(block + count)) {
      const kind = kindOf(view, entryAt(slot + count));
      if (kind !== KIND_UNALLOCATED && kind !== KIND_ZERO) break;
      count++;
    }
    return count;
  }

  placed(placement: Placement): void {
    const { page, first, count } = this.#gate.leave(Math.floor(placement.offset / this.#blockSize));
    const start = placement.offset - placement.fillBefore - first * this.#blockSize;
    const end = placement.offset + placement.length + placement.fillAfter - first * this.#blockSize;
    const base = placement.deviceOffset - (placement.offset - first * this.#blockSize);
    let isNew = false;
    for (let i = 0; i < count; i++) {
      const from = Math.max(0, start - i * this.#blockSize) / this.zeroUnit;
      const to = Math.min(this.#blockSize, end - i * this.#blockSize) / this.zeroUnit;
      const mask = subBlockMask(from, Math.ceil(to) - 1);
      isNew = this.#mapBlock(page, (first + i) % ENTRIES, base + i * this.#blockSize, mask) || isNew;
    }
    if (isNew) this.#space.mapped(base);
    this.metadata.changed(page);
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
        this.#space.free(placeOf(view, at), allocatedOf(view, at));
        setEntry(view, at, KIND_DATA, place, ALL_SUB_BLOCKS, 0);
        return true;
      default:
        setEntry(view, at, KIND_DATA, place, mask, 0);
        return true;
    }
  }

  abandon(placement: Placement): void {
    const { page, first } = this.#gate.leave(Math.floor(placement.offset / this.#blockSize));
    const at = entryAt(first % ENTRIES);
    const hasPlace = kindOf(page.view, at) === KIND_DATA && placeOf(page.view, at) !== 0;
    if (!hasPlace)
      this.#space.giveBack(placement.deviceOffset - (placement.offset - first * this.#blockSize));
  }

  zero(offset: number, length: number, keepAllocated: boolean): MaybePromise<void> {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / this.#blockSize);
      const stop = Math.min(end, (block + 1) * this.#blockSize);
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
    this.#throwFailure();
    const again = (): number => from;
    if (this.#gate.isBusy(block)) return this.#gate.wait(block).then(again);
    if (!this.metadata.hasRoom(this.#gate.size + 1)) return this.#makeRoom().then(again);
    const index = Math.floor(block / ENTRIES);
    const found = this.metadata.table(index);
    if (isPromise(found)) return found.then(again);
    if (!found && !this.#hasParent && !keepAllocated) {
      // no table page: everything it would map reads as zeroes
      return Math.max(stop, (index + 1) * ENTRIES * this.#blockSize);
    }
    const page = found ?? this.metadata.tableForWrite(index);
    if (isPromise(page)) return page.then(again);
    const base = block * this.#blockSize;
    const whole = from === base && (stop === base + this.#blockSize || stop === this.header.virtualSize);
    const at = entryAt(block % ENTRIES);
    if (!whole && kindOf(page.view, at) === KIND_COMPRESSED) return this.#inflate(page, block).then(again);
    if (whole && !keepAllocated) {
      this.#zeroWhole(page, at);
      return stop;
    }
    if (keepAllocated && !this.#hasPlace(page.view, at)) {
      if (kindOf(page.view, at) === KIND_COMPRESSED) this.#zeroWhole(page, at);
      const reserved = this.#reserve(page, block);
      if (isPromise(reserved)) return reserved.then(again);
    }
    const mask = whole
      ? ALL_SUB_BLOCKS
      : subBlockMask((from - base) / this.zeroUnit, Math.ceil((stop - base) / this.zeroUnit) - 1);
    this.#zeroSubBlocks(page, block, mask, keepAllocated);
    return stop;
  }

  #hasPlace(view: DataView, at: number): boolean {
    return kindOf(view, at) === KIND_DATA && placeOf(view, at) !== 0;
  }

  /** A block that reads as zeroes: nothing is stored for it, unless what is behind must be hidden. */
  #zeroWhole(page: MetadataPage, at: number): void {
    const { view } = page;
    const kind = kindOf(view, at);
    const target = this.#hasParent ? KIND_ZERO : KIND_UNALLOCATED;
    if (kind === target) return;
    this.#freeBlock(view, at);
    setEntry(view, at, target, 0, 0, 0);
    this.metadata.changed(page);
  }

  #freeBlock(view: DataView, at: number): void {
    const kind = kindOf(view, at);
    const place = placeOf(view, at);
    if (kind === KIND_DATA && place !== 0) this.#space.free(place, this.#blockSize);
    if (kind === KIND_COMPRESSED) this.#space.free(place, allocatedOf(view, at));
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
    if (empty && (zero === ALL_SUB_BLOCKS || !this.#hasParent)) {
      this.#zeroWhole(page, at);
      return;
    }
    setEntry(view, at, KIND_DATA, place, allocated, zero);
    this.metadata.changed(page);
    if (!keepAllocated && place !== 0) {
      this.#unmappedParts.set(block, ((this.#unmappedParts.get(block) ?? 0) | mask) >>> 0);
    }
  }

  /**
   * Gives a block a place with space taken for it; what it reads stays as it is. The block is busy until then: late
   * zeroes must not meet data.
   */
  #reserve(page: MetadataPage, block: number): MaybePromise<void> {
    const { place } = this.#space.takeBlocks(1);
    this.#gate.enter(block, 1, page);
    const refused = (error: unknown): never => {
      this.#space.giveBack(place);
      this.#gate.leave(block);
      throw error;
    };
    try {
      const io = this.file.writeZeroes(place, this.#blockSize, { keepAllocated: true });
      if (isPromise(io)) return io.then(() => this.#reserved(page, block, place), refused);
    } catch (error) {
      return refused(error);
    }
    this.#reserved(page, block, place);
  }

  #reserved(page: MetadataPage, block: number, place: number): void {
    this.#gate.leave(block);
    this.#space.mapped(place);
    const at = entryAt(block % ENTRIES);
    const wasData = kindOf(page.view, at) === KIND_DATA;
    const zero = wasData ? zeroOf(page.view, at) : kindOf(page.view, at) === KIND_ZERO ? ALL_SUB_BLOCKS : 0;
    setEntry(page.view, at, KIND_DATA, place, 0, zero);
    this.metadata.changed(page);
  }

  /** Turns a compressed block into a plain one, so that parts of it can change. */
  async #inflate(page: MetadataPage, block: number): Promise<void> {
    const at = entryAt(block % ENTRIES);
    const stored = new Uint8Array(allocatedOf(page.view, at));
    const checksum = zeroOf(page.view, at);
    this.#gate.enter(block, 1, page);
    const { place } = this.#space.takeBlocks(1);
    try {
      await this.file.pread(stored, placeOf(page.view, at));
      const plain = await decompressBlock(
        stored,
        checksum,
        this.header.compression,
        this.#blockSize,
        this.file.name,
      );
      await this.file.pwrite(plain, place);
    } catch (error) {
      this.#space.giveBack(place);
      this.#gate.leave(block);
      throw error;
    }
    this.#freeBlock(page.view, at);
    setEntry(page.view, at, KIND_DATA, place, ALL_SUB_BLOCKS, 0);
    this.#space.mapped(place);
    this.metadata.changed(page);
    this.#gate.leave(block);
  }

  async writeCompressed(offset: number, unit: Uint8Array): Promise<boolean> {
    const block = Math.floor(offset / this.#blockSize);
    let whole = unit;
    if (unit.length < this.#blockSize) {
      whole = new Uint8Array(this.#blockSize);
      whole.set(unit);
    }
    const stored = await compressBlock(whole, this.header.compression);
    if (!stored) return false;
    this.#throwFailure();
    const page = await this.#pageForChange(block);
    const place = this.#space.takePacked(stored.length);
    this.#gate.enter(block, 1, page);
    try {
      await this.file.pwrite(stored, place);
    } finally {
      this.#gate.leave(block);
    }
    const at = entryAt(block % ENTRIES);
    this.#freeBlock(page.view, at);
    setEntry(page.view, at, KIND_COMPRESSED, place, stored.length, crc32c(stored));
    this.metadata.changed(page);
    return true;
  }

  /** The table page of a block that nobody else is changing, with room to change it. */
  async #pageForChange(block: number): Promise<MetadataPage> {
    for (;;) {
      await this.#gate.wait(block);
      if (!this.metadata.hasRoom(this.#gate.size + 1)) {
        await this.#makeRoom();
        continue;
      }
      const page = await this.metadata.tableForWrite(Math.floor(block / ENTRIES));
      if (!this.#gate.isBusy(block) && this.metadata.hasRoom(this.#gate.size + 1)) return page;
    }
  }

  hold(): number {
    return this.#space.hold();
  }

  release(token: number): void {
    this.#space.release(token);
  }

  /** A transaction under way counts as well: what it maps is not durable before it is. */
  async flush(): Promise<void> {
    this.#throwFailure();
    if (!this.#begun) return;
    const parts = this.#unmappedParts;
    this.#unmappedParts = new Map();
    await this.metadata.commit();
    await this.metadata.settleSpace();
    await this.#punchParts(parts);
  }

  /** Frees the host space of sub-blocks that a durable transaction gave up and that nobody wrote since. */
  async #punchParts(parts: ReadonlyMap<number, number>): Promise<void> {
    for (const [block, mask] of parts) {
      const page = this.metadata.cachedTable(Math.floor(block / ENTRIES));
      if (!page || this.#gate.isBusy(block)) continue;
      const at = entryAt(block % ENTRIES);
      if (kindOf(page.view, at) !== KIND_DATA || placeOf(page.view, at) === 0) continue;
      const unused = (mask & ~allocatedOf(page.view, at)) >>> 0;
      await this.#punchSubBlocks(page, block, unused);
    }
  }

  async #punchSubBlocks(page: MetadataPage, block: number, unused: number): Promise<void> {
    const place = placeOf(page.view, entryAt(block % ENTRIES));
    this.#gate.enter(block, 1, page);
    try {
      for (let first = 0; first < SUB_BLOCKS; ) {
        const run = runLength(unused, first);
        const isUnused = ((unused >>> first) & 1) === 1;
        if (isUnused) await freeHostSpace(this.file, place + first * this.zeroUnit, run * this.zeroUnit);
        first += run;
      }
    } finally {
      this.#gate.leave(block);
    }
  }

  async resize(size: number, behindSize: number): Promise<void> {
    if (size > this.header.virtualSize) await growDisk(this, size, behindSize);
    else if (size < this.header.virtualSize) await shrinkDisk(this, size);
  }

  /** Takes `length` bytes behind everything else, for a structure of its own. */
  reserveRegion(length: number): number {
    return this.#space.takeRegion(length);
  }

  /** Clears the entries of blocks wholly past the end, and the part of the last block that is. */
  async clearFrom(size: number, tables: number): Promise<void> {
    const span = ENTRIES * this.#blockSize;
    for (let index = Math.floor(size / span); index < tables; index++) {
      const page = await this.metadata.table(index);
      if (!page) continue;
      if (!this.metadata.hasRoom(this.#gate.size + 1)) await this.metadata.commit();
      for (let slot = 0; slot < ENTRIES; slot++) {
        const block = index * ENTRIES + slot;
        if (block * this.#blockSize >= size) this.#clearBlock(page, slot);
      }
    }
    await this.#clearTail(size);
  }

  #clearBlock(page: MetadataPage, slot: number): void {
    const at = entryAt(slot);
    if (kindOf(page.view, at) === KIND_UNALLOCATED) return;
    this.#freeBlock(page.view, at);
    clearEntry(page.view, at);
    this.metadata.changed(page);
  }

  /** What the last block stores past the end of the disk must not come back when the disk grows again. */
  async #clearTail(size: number): Promise<void> {
    const block = Math.floor(size / this.#blockSize);
    const within = size - block * this.#blockSize;
    if (within === 0) return;
    const page = await this.metadata.table(Math.floor(block / ENTRIES));
    if (!page) return;
    const at = entryAt(block % ENTRIES);
    if (kindOf(page.view, at) === KIND_COMPRESSED) await this.#inflate(page, block);
    if (kindOf(page.view, at) !== KIND_DATA) return;
    const first = Math.ceil(within / this.zeroUnit);
    const keep = first === 0 ? 0 : subBlockMask(0, first - 1);
    const allocated = (allocatedOf(page.view, at) & keep) >>> 0;
    setEntry(
      page.view,
      at,
      KIND_DATA,
      placeOf(page.view, at),
      allocated,
      (zeroOf(page.view, at) & keep) >>> 0,
    );
    this.metadata.changed(page);
    const edge = within % this.zeroUnit;
    const last = Math.floor(within / this.zeroUnit);
    if (edge !== 0 && ((allocated >>> last) & 1) === 1) {
      await this.file.pwrite(new Uint8Array(this.zeroUnit - edge), placeOf(page.view, at) + within);
    }
  }

  #throwFailure(): void {
    const failure: VimgError | undefined = this.metadata.failure;
    if (failure) throw failure;
  }

  /** Brings everything in place and marks the file clean. After a failed transaction it stays dirty. */
  async close(): Promise<void> {
    if (!this.#begun) return;
    this.#space.endPacking();
    await this.flush();
    await this.metadata.settleSpace();
    const { header, file } = this;
    header.state = STATE_CLEAN;
    header.sequence = this.metadata.sequence;
    if (this.#fresh) return writeFirstHeader(file, header);
    await writeHeader(file, header);
    await freeHostSpace(file, header.journalOffset, 2 * header.journalSlotPages * PAGE);
    await cutFile(file, this.#space.spaceEnd);
  }
}
