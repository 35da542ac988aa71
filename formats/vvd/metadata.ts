/**
 * The metadata of an open layer: directory and table pages in memory, and transactions that bring changes to disk.
 *
 * Invariants:
 * - A page in memory was verified when it was loaded: type, index, disk, place, generation, checksum.
 * - A table page is evicted only when what is in its place on disk equals it.
 * - One transaction at a time. It takes its images at one instant; then data is flushed, the images are written to
 *   the journal, flushed, and written in place.
 * - After a failed transaction nothing more is written: every later one fails with the same error.
 */
import { fromSystemError, invariant, VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { encodeTransaction, type PageImage, slotCapacity, slotOffset } from './journal.ts';
import {
  ENTRIES,
  ENTRY,
  type Header,
  PAGE,
  PAGE_DIRECTORY,
  PAGE_HEADER,
  PAGE_TABLE,
  SPACE_PAGES,
} from './layout.ts';
import { getU64, newPage, type PageExpectation, pageProblem, sealPage, setU64 } from './page.ts';
import type { SpaceMap } from './space-map.ts';

/** A directory or table page in memory. */
export class MetadataPage {
  readonly type: number;
  readonly index: number;
  readonly place: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  dirty = false;
  /** Transactions that hold an image of it which is not in place yet. */
  pins = 0;

  constructor(type: number, index: number, place: number, bytes: Uint8Array) {
    this.type = type;
    this.index = index;
    this.place = place;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, PAGE);
  }
}

const CACHED_TABLES = Math.floor(LIMITS.metadataCache / PAGE);

export class Metadata {
  readonly file: BlockDevice;
  readonly header: Header;
  readonly #space: SpaceMap | undefined;
  /** Which directory pages were ever written; the space map's own, where there is one. */
  readonly #written: Uint8Array;
  readonly #fresh: boolean;
  readonly #directories = new Map<number, MetadataPage>();
  readonly #tables = new Map<number, MetadataPage>();
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
    this.#written = space instanceof Uint8Array ? space : space.directoriesWritten;
    this.#fresh = fresh;
    this.#sequence = header.sequence;
    this.#capacity = slotCapacity(header.journalSlotPages);
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
    const page = new MetadataPage(type, index, image.home, image.page);
    page.pins = 1;
    if (type === PAGE_DIRECTORY) this.#directories.set(index, page);
    if (type === PAGE_TABLE) this.#tables.set(index, page);
  }

  /** A table page that is in memory already. */
  cachedTable(index: number): MetadataPage | undefined {
    return this.#tables.get(index);
  }

  /**
   * The table page with this index; undefined when there is none: all its blocks are unallocated.
   *
   * @throws VimgError `CORRUPT` when the page is damaged, stale or another's
   */
  table(index: number): MaybePromise<MetadataPage | undefined> {
    const cached = this.#tables.get(index);
    if (cached) return cached;
    if (!this.#mayHold(Math.floor(index / ENTRIES))) return undefined;
    const directory = this.directory(Math.floor(index / ENTRIES));
    if (isPromise(directory)) return directory.then((page) => this.#loadTable(page, index));
    return this.#loadTable(directory, index);
  }

  #loadTable(directory: MetadataPage, index: number): MaybePromise<MetadataPage | undefined> {
    const made = this.#tables.get(index);
    if (made) return made; // while the directory page was being read
    const at = directoryEntryAt(index);
    const place = getU64(directory.view, at);
    if (place === 0) return undefined;
    const { dataOffset } = this.header;
    if (place % PAGE !== 0 || place < dataOffset || place + PAGE > this.file.size) {
      throw this.#corrupt(`table page ${index}`, place, 'the directory names an impossible place');
    }
    const generation = getU64(directory.view, at + 8);
    const page = this.#load(PAGE_TABLE, index, place, generation);
    if (isPromise(page)) return page.then((loaded) => this.#keepTable(loaded));
    return this.#keepTable(page);
  }

  #keepTable(page: MetadataPage): MetadataPage {
    const known = this.#tables.get(page.index);
    if (known) return known; // loaded twice at once: the first one may have been changed already
    if (this.#tables.size >= CACHED_TABLES) this.#evict();
    this.#tables.set(page.index, page);
    return page;
  }

  /** Drops the oldest pages that are the same on disk, an eighth of the cache at a time. */
  #evict(): void {
    let left = CACHED_TABLES >>> 3;
    for (const [index, page] of this.#tables) {
      if (page.dirty || page.pins > 0) continue;
      this.#tables.delete(index);
      if (--left === 0) return;
    }
  }

  /** A directory page. @throws VimgError `CORRUPT` when it is damaged or another's */
  directory(index: number): MaybePromise<MetadataPage> {
    const cached = this.#directories.get(index);
    if (cached) return cached;
    const place = this.header.directoryOffset + index * PAGE;
    if (!this.isDirectoryWritten(index)) {
      const empty = newPage(PAGE_DIRECTORY, index, this.header.diskUuid, place);
      const made = new MetadataPage(PAGE_DIRECTORY, index, place, empty);
      this.#directories.set(index, made);
      return made;
    }
    const page = this.#load(PAGE_DIRECTORY, index, place);
    const keep = (loaded: MetadataPage): MetadataPage => {
      const known = this.#directories.get(index);
      if (known) return known;
      this.#directories.set(index, loaded);
      return loaded;
    };
    return isPromise(page) ? page.then(keep) : keep(page);
  }

  #load(type: number, index: number, place: number, generation?: number): MaybePromise<MetadataPage> {
    const bytes = new Uint8Array(PAGE);
    const expected: PageExpectation = {
      type,
      index,
      place,
      diskUuid: this.header.diskUuid,
      ...(generation === undefined ? {} : { generation }),
    };
    const verified = (): MetadataPage => {
      // loaded by someone else meanwhile: it may have been changed, and be on its way to the disk
      const known = (type === PAGE_TABLE ? this.#tables : this.#directories).get(index);
      if (known) return known;
      const problem = pageProblem(bytes, expected);
      const what = type === PAGE_TABLE ? `table page ${index}` : `directory page ${index}`;
      if (problem !== undefined) throw this.#corrupt(what, place, problem);
      return new MetadataPage(type, index, place, bytes);
    };
    const io = this.file.pread(bytes, place);
    return isPromise(io) ? io.then(verified) : verified();
  }

  #corrupt(what: string, offset: number, problem: string): VimgError {
    return new VimgError('CORRUPT', `The ${what} is damaged: ${problem}`, {
      op: 'read allocation table',
      path: this.file.name,
      offset,
    });
  }

  /** Whether a directory page was ever written; one that was not maps nothing. */
  isDirectoryWritten(index: number): boolean {
    return (((this.#written[index >>> 3] ?? 0) >>> (index & 7)) & 1) === 1;
  }

  /** How many table pages from `index` on are certain not to exist, when that one does not. */
  absentTables(index: number): number {
    let next = Math.floor(index / ENTRIES);
    if (this.#mayHold(next)) return 1;
    while (next < this.header.directoryPages && !this.#mayHold(next)) next++;
    return next * ENTRIES - index;
  }

  #mayHold(directory: number): boolean {
    return this.isDirectoryWritten(directory) || this.#directories.has(directory);
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
    const known = this.#tables.get(index);
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
    this.#keepTable(page);
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
    const directory = this.#directories.get(Math.floor(page.index / ENTRIES));
    invariant(directory !== undefined, 'a table page in memory has its directory page in memory');
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
    for (const { index } of this.#dirtyDirectories) {
      this.#written[index >>> 3] = (this.#written[index >>> 3] ?? 0) | (1 << (index & 7));
    }
    for (const table of this.#dirtyTables) {
      const directory = this.#directories.get(Math.floor(table.index / ENTRIES)) as MetadataPage;
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
    this.#directories.clear();
    this.#tables.clear();
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

/** Byte offset, in its directory page, of the entry for a table page. */
export function directoryEntryAt(tableIndex: number): number {
  return PAGE_HEADER + (tableIndex % ENTRIES) * ENTRY;
}
