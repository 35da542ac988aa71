/**
 * The metadata of an open layer: which pages were changed, and transactions that bring them to disk.
 *
 * Invariants:
 * - One transaction at a time. It takes its images at one instant; then data is flushed, the images are written to
 *   the journal, flushed, and written in place.
 * - After a failed transaction nothing more is written: every later one fails with the same error.
 */
import { fromSystemError, invariant, type VimgError } from '../../src/base/errors.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { HitCounts } from '../../src/image/cache-statistics.ts';
import { type EntryBounds, entriesProblem } from './entry-bounds.ts';
import { fixedRegions } from './header.ts';
import { encodeTransaction, type PageImage, slotCapacity, slotOffset } from './journal.ts';
import { ENTRIES, type Header, PAGE, PAGE_TABLE, SPACE_PAGES } from './layout.ts';
import { newPage, sealPage, setU64 } from './page.ts';
import { directoryEntryAt, MetadataPage, PageCache } from './page-cache.ts';
import type { SpaceMap } from './space-map.ts';

export class Metadata {
  readonly file: BlockDevice;
  readonly header: Header;
  readonly #space: SpaceMap | undefined;
  readonly #pages: PageCache;
  readonly #fresh: boolean;
  readonly #dirtyTables = new Set<MetadataPage>();
  readonly #dirtyDirectories = new Set<MetadataPage>();
  readonly #capacity: number;
  #sequence: number;
  #spaceChanged = false;
  /** Space for the next table pages is being taken. */
  #reserving: Promise<void> | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #failure: VimgError | undefined;
  #durable: { place: number; length: number }[][] = [];

  /** @param space where new pages come from; for a layer that is only read, which directory pages were written */
  constructor(file: BlockDevice, header: Header, space: SpaceMap | Uint8Array, fresh: boolean) {
    this.file = file;
    this.header = header;
    this.#space = space instanceof Uint8Array ? undefined : space;
    this.#pages =
      space instanceof Uint8Array
        ? new PageCache(file, header, space)
        : new PageCache(file, header, space.directoriesWritten, (view) =>
            entriesProblem(view, boundsOf(header, space)),
          );
    this.#fresh = fresh;
    this.#sequence = header.sequence;
    this.#capacity = slotCapacity(header.journalSlotPages);
  }

  /** As {@link PageCache.counts}. */
  get counts(): HitCounts {
    return this.#pages.counts;
  }

  /** Sequence of the last transaction. */
  get sequence(): number {
    return this.#sequence;
  }

  get hasChanges(): boolean {
    return this.#dirtyTables.size > 0 || this.#spaceChanged;
  }

  /** Puts a verified image over what is on disk, for a layer that is read without repairing its file. */
  overlay(image: PageImage, type: number, index: number): void {
    this.#pages.overlay(image, type, index);
  }

  /** A table page that is in memory already. */
  cachedTable(index: number): MetadataPage | undefined {
    return this.#pages.cachedTable(index);
  }

  /** As {@link PageCache.table}. */
  table(index: number): MaybePromise<MetadataPage | undefined> {
    return this.#pages.table(index);
  }

  /** As {@link PageCache.directory}. */
  directory(index: number): MaybePromise<MetadataPage> {
    return this.#pages.directory(index);
  }

  /** As {@link PageCache.isDirectoryWritten}. */
  isDirectoryWritten(index: number): boolean {
    return this.#pages.isDirectoryWritten(index);
  }

  /** As {@link PageCache.absentTables}. */
  absentTables(index: number, most: number): number {
    return this.#pages.absentTables(index, most);
  }

  /**
   * The table page for writing: made when there is none. Call `changed` in the tick that changes it.
   *
   * @throws VimgError `NO_SPACE` when there is none for another block of table pages
   */
  tableForWrite(index: number): MaybePromise<MetadataPage> {
    const found = this.table(index);
    if (isPromise(found)) return found.then((page) => page ?? this.#newTable(index));
    return found ?? this.#newTable(index);
  }

  #newTable(index: number): MaybePromise<MetadataPage> {
    const known = this.#pages.cachedTable(index);
    if (known) return known;
    const directory = this.directory(Math.floor(index / ENTRIES));
    const space = this.#space;
    invariant(
      !isPromise(directory) && space !== undefined,
      'a new table page has its directory in memory, and space',
    );
    if (!space.hasMetadataPage) {
      const reserved = this.#reserveTables(space);
      if (isPromise(reserved)) return reserved.then(() => this.#newTable(index));
    }
    const place = space.takeMetadataPage();
    const page = new MetadataPage(
      PAGE_TABLE,
      index,
      place,
      newPage(PAGE_TABLE, index, this.header.diskUuid, place),
    );
    setU64(directory.view, directoryEntryAt(index), place);
    this.#pages.keepTable(page);
    this.changed(page);
    return page;
  }

  /**
   * A block for table pages. Its host space is taken now, before any page of it is used: a full disk is met here
   * and not in a transaction, and no late zeroes meet a page that was written already.
   */
  #reserveTables(space: SpaceMap): MaybePromise<void> {
    if (this.#reserving !== undefined) return this.#reserving;
    const { place } = space.takeBlocks(1);
    if (this.#fresh) return space.useForMetadata(place);
    const refused = (error: unknown): never => {
      space.giveBack(place);
      throw error;
    };
    try {
      const io = this.file.writeZeroes(place, 2 ** this.header.blockShift, { keepAllocated: true });
      if (!isPromise(io)) return space.useForMetadata(place);
      this.#reserving = io
        .then(() => space.useForMetadata(place), refused)
        .finally(() => {
          this.#reserving = undefined;
        });
      return this.#reserving;
    } catch (error) {
      return refused(error);
    }
  }

  /** The page was changed: it belongs to the next transaction. */
  changed(page: MetadataPage): void {
    if (page.dirty) return;
    page.dirty = true;
    this.#dirtyTables.add(page);
    const directory = this.#pages.directoryOf(page.index);
    if (!directory.dirty) {
      directory.dirty = true;
      this.#dirtyDirectories.add(directory);
    }
  }

  /** Whether `more` pages can still be changed before a transaction is needed. */
  hasRoom(more: number): boolean {
    const used = this.#dirtyTables.size + this.#dirtyDirectories.size + SPACE_PAGES;
    return used + 2 * more + 2 <= this.#capacity;
  }

  /** As {@link hasRoom} for one more page, where it is known which pages (each once) are going to be changed. */
  hasRoomBeside(pages: Iterable<MetadataPage>): boolean {
    let count = this.#dirtyTables.size + this.#dirtyDirectories.size + SPACE_PAGES;
    const directories = new Set<MetadataPage>();
    for (const page of pages) {
      if (page.dirty) continue;
      count++;
      const directory = this.#pages.directoryOf(page.index);
      if (!directory.dirty) directories.add(directory);
    }
    return count + directories.size + 2 <= this.#capacity;
  }

  /** The sticky failure, if a transaction failed. */
  get failure(): VimgError | undefined {
    return this.#failure;
  }

  /**
   * Makes every change so far durable, after the data it maps.
   *
   * @throws VimgError what the device threw; from then on always
   */
  commit(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (!this.#running) return this.#start();
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.commit();
      });
    return this.#next;
  }

  /** Space was given back without a change of a table page: the next transaction is for the space list. */
  spaceChanged(): void {
    this.#spaceChanged = true;
  }

  /** Commits with the space list as it is now, also when no table page changed. */
  commitSpace(): Promise<void> {
    this.#spaceChanged = true;
    return this.commit();
  }

  #start(): Promise<void> {
    const running = this.#transact()
      .catch((error: unknown) => {
        throw this.fail(error);
      })
      .finally(() => {
        if (this.#running === running) this.#running = undefined;
      });
    this.#running = running;
    return running;
  }

  /** Nothing is written any more: what is on disk is not known, and the next open settles it. */
  fail(error: unknown): VimgError {
    this.#failure ??= fromSystemError(error, { op: 'write metadata', path: this.file.name });
    return this.#failure;
  }

  async #transact(): Promise<void> {
    if (this.#fresh) return this.#writeFresh();
    if (!this.hasChanges) {
      await this.file.flush();
      return;
    }
    const sequence = this.#sequence + 1;
    const pages = [...this.#dirtyTables, ...this.#dirtyDirectories];
    const freed = this.#space?.startTransaction() ?? [];
    const images = this.#takeImages(sequence, pages);
    const bytes = encodeTransaction(this.header, { sequence, images });
    await this.file.flush();
    await this.file.pwrite(bytes, slotOffset(this.header, sequence));
    await this.file.flush();
    this.#sequence = sequence;
    await writeImages(this.file, images);
    for (const page of pages) page.pins--;
    this.#durable.push(freed);
    await this.settleSpace();
  }

  /** Lets the space map reuse what durable transactions freed. */
  async settleSpace(): Promise<void> {
    if (!this.#space) return;
    await this.#space.settle(this.#durable);
    if (!this.#space.hasWaiting) this.#durable = [];
  }

  /** Seals all changed pages and copies them: from here on the transaction does not see later changes. */
  #takeImages(sequence: number, pages: readonly MetadataPage[]): PageImage[] {
    for (const { index } of this.#dirtyDirectories) this.#pages.markWritten(index);
    for (const table of this.#dirtyTables) {
      const directory = this.#pages.directoryOf(table.index);
      setU64(directory.view, directoryEntryAt(table.index) + 8, sequence);
    }
    const images: PageImage[] = pages.map((page) => {
      sealPage(page.bytes, sequence);
      page.dirty = false;
      page.pins++;
      return { home: page.place, page: page.bytes.slice() };
    });
    this.#dirtyTables.clear();
    this.#dirtyDirectories.clear();
    this.#spaceChanged = false;
    const space = this.#space?.pages(this.header.diskUuid, this.header.spaceOffset) ?? [];
    for (const [i, page] of space.entries()) {
      sealPage(page, sequence);
      images.push({ home: this.header.spaceOffset + i * PAGE, page });
    }
    invariant(this.#fresh || images.length <= this.#capacity, 'a transaction fits its journal slot');
    return images;
  }

  /** A file that nobody relies on yet: pages go straight to their places. */
  async #writeFresh(): Promise<void> {
    if (!this.hasChanges) {
      await this.file.flush();
      return;
    }
    const sequence = this.#sequence + 1;
    const pages = [...this.#dirtyTables, ...this.#dirtyDirectories];
    const freed = this.#space?.startTransaction() ?? [];
    const images = this.#takeImages(sequence, pages);
    this.#sequence = sequence;
    await writeImages(this.file, images);
    for (const page of pages) page.pins--;
    this.#durable.push(freed);
    await this.settleSpace();
  }

  /** Forgets the directory pages in memory: they moved. All of them are clean. */
  forgetDirectories(): void {
    invariant(!this.hasChanges, 'a directory moves while nothing is changed');
    this.#pages.clear();
  }
}

/** Writes page images to their homes, in ascending order, neighbours in one write. */
export async function writeImages(file: BlockDevice, images: readonly PageImage[]): Promise<void> {
  const sorted = images.toSorted((a, b) => a.home - b.home);
  const writes: Promise<void>[] = [];
  for (let at = 0; at < sorted.length; ) {
    let end = at + 1;
    const first = sorted[at] as PageImage;
    while (end < sorted.length && (sorted[end] as PageImage).home === first.home + (end - at) * PAGE) end++;
    const run = sorted.slice(at, end).map((image) => image.page);
    const io = file.pwrite(run.length === 1 ? first.page : Buffer.concat(run), first.home);
    if (isPromise(io)) writes.push(io);
    at = end;
  }
  await Promise.all(writes);
}

/** In a layer that is written, entries are held to these before anything is done by them. */
function boundsOf(header: Header, space: SpaceMap): EntryBounds {
  return {
    blockSize: 2 ** header.blockShift,
    from: header.dataOffset,
    to: space.spaceEnd,
    regions: fixedRegions(header).filter((region) => region.offset >= header.dataOffset),
  };
}
