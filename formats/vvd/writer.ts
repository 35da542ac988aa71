/**
 * Writing a VVD layer: begins and ends a session of changes, and brings them to disk.
 *
 * The mapping in memory runs ahead of the one on disk; metadata.ts brings it there, after the data.
 */
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import { newUuid } from '../../src/binary/uuid.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { LayerWriter, Placement } from '../../src/image/layer.ts';
import { BlockPlacer } from './block-placer.ts';
import { BlockZeroer } from './block-zeroer.ts';
import { compressBlock } from './compression.ts';
import { entryAt, KIND_COMPRESSED, setEntry } from './entry.ts';
import { writeFirstHeader, writeHeader } from './header.ts';
import { cutFile, freeHostSpace } from './host-space.ts';
import { ENTRIES, type Header, PAGE, STATE_CLEAN, STATE_DIRTY } from './layout.ts';
import { Mapping } from './mapping.ts';
import type { Metadata } from './metadata.ts';
import { growDisk, shrinkDisk } from './resize.ts';
import type { SpaceMap } from './space-map.ts';
import { clearFrom } from './trim.ts';

export class VvdWriter implements LayerWriter {
  readonly zeroUnit: number;
  readonly file: BlockDevice;
  readonly header: Header;
  readonly metadata: Metadata;
  readonly #map: Mapping;
  readonly #placer: BlockPlacer;
  readonly #zeroer: BlockZeroer;
  readonly #fresh: boolean;
  readonly #keepContentId: boolean;
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
    this.#map = new Mapping(metadata, space);
    this.#placer = new BlockPlacer(this.#map);
    this.#zeroer = new BlockZeroer(this.#map);
    this.#fresh = options.fresh ?? false;
    this.#keepContentId = options.keepContentId ?? false;
    this.zeroUnit = this.#map.zeroUnit;
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
    return this.#placer.place(offset, length, into);
  }

  placed(placement: Placement): void {
    this.#placer.placed(placement);
  }

  abandon(placement: Placement): void {
    this.#placer.abandon(placement);
  }

  zero(offset: number, length: number, keepAllocated: boolean): MaybePromise<void> {
    return this.#zeroer.zero(offset, length, keepAllocated);
  }

  async writeCompressed(offset: number, unit: Uint8Array): Promise<boolean> {
    const block = Math.floor(offset / this.#map.blockSize);
    let whole = unit;
    if (unit.length < this.#map.blockSize) {
      whole = new Uint8Array(this.#map.blockSize);
      whole.set(unit);
    }
    const stored = await compressBlock(whole, this.header.compression);
    if (!stored) return false;
    this.#map.throwFailure();
    const page = await this.#map.enter(block);
    let place: number;
    try {
      place = this.#map.space.takePacked(stored.length);
      await this.file.pwrite(stored, place);
    } finally {
      this.#map.gate.leave(block);
    }
    const at = entryAt(block % ENTRIES);
    this.#map.freeBlock(page.view, at);
    setEntry(page.view, at, KIND_COMPRESSED, place, stored.length, crc32c(stored));
    this.metadata.changed(page);
    return true;
  }

  /** @throws VimgError the failure of an earlier transaction: nothing is written after it */
  throwFailure(): void {
    this.#map.throwFailure();
  }

  hold(): number {
    return this.#map.space.hold();
  }

  release(token: number): void {
    this.#map.space.release(token);
  }

  /** A transaction under way counts as well: what it maps is not durable before it is. */
  async flush(): Promise<void> {
    this.#map.throwFailure();
    if (!this.#begun) return;
    const parts = this.#zeroer.takeUnmappedParts();
    await this.metadata.commit();
    await this.metadata.settleSpace();
    await this.#zeroer.punch(parts);
  }

  async resize(size: number, behindSize: number): Promise<void> {
    if (size > this.header.virtualSize) await growDisk(this, size, behindSize);
    else if (size < this.header.virtualSize) await shrinkDisk(this, size);
  }

  /** Takes `length` bytes behind everything else, for a structure of its own. */
  reserveRegion(length: number): number {
    return this.#map.space.takeRegion(length);
  }

  /** Gives back the space of a structure that the header, durably, does not name any more. */
  freeRegion(place: number, length: number): void {
    this.#map.space.free(place, length);
    this.metadata.spaceChanged();
  }

  /** Clears what is stored at and past `size`, in the first `tables` table pages. */
  clearFrom(size: number, tables: number): Promise<void> {
    return clearFrom(this.#map, size, tables);
  }

  /** Brings everything in place and marks the file clean. After a failed transaction it stays dirty. */
  async close(): Promise<void> {
    if (!this.#begun) return;
    if (this.#fresh) {
      await this.#settle();
      return writeFirstHeader(this.file, this.header);
    }
    await this.rest();
    await this.giveBack();
  }

  /**
   * As `close`, but more can be written afterwards: the next `begin` starts anew.
   *
   * @param change what the header says besides, from the same write on
   */
  async rest(change: (header: Header) => void = () => undefined): Promise<void> {
    await this.#settle();
    this.#begun = false; // also when the header cannot be written: what comes next has to mark the file dirty
    this.#beginning = undefined;
    change(this.header);
    await writeHeader(this.file, this.header);
  }

  async #settle(): Promise<void> {
    if (!this.#begun) return;
    this.#map.space.endPacking();
    await this.flush();
    await this.metadata.settleSpace();
    this.header.state = STATE_CLEAN;
    this.header.sequence = this.metadata.sequence;
  }

  /** Gives the host what a clean file does not need: the journal's space, and what is behind the end in use. */
  async giveBack(): Promise<void> {
    const { header, file } = this;
    await freeHostSpace(file, header.journalOffset, 2 * header.journalSlotPages * PAGE);
    await cutFile(file, this.#map.space.spaceEnd);
  }
}
