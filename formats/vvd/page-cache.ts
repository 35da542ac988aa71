/**
 * Directory and table pages in memory.
 *
 * Invariants:
 * - A page in memory was verified when it was loaded: type, index, disk, place, generation, checksum.
 * - A table page is evicted only when what is in its place on disk equals it.
 * - A table page in memory has its directory page in memory.
 */
import { invariant, VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { HitCounts } from '../../src/image/cache-statistics.ts';
import type { PageImage } from './journal.ts';
import { ENTRIES, ENTRY, type Header, PAGE, PAGE_DIRECTORY, PAGE_HEADER, PAGE_TABLE } from './layout.ts';
import { getU64, newPage, type PageExpectation, pageProblem } from './page.ts';

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

export class PageCache {
  readonly file: BlockDevice;
  readonly header: Header;
  /** Which directory pages were ever written: one bit each, as in the space list head. */
  readonly written: Uint8Array;
  /** Table pages that were in memory; and directory and table pages that had to be read. */
  readonly counts: HitCounts = new HitCounts();
  readonly #directories = new Map<number, MetadataPage>();
  readonly #tables = new Map<number, MetadataPage>();

  readonly #tableProblem: (view: DataView) => string | undefined;

  /**
   * @param written the space map's own, where there is one
   * @param tableProblem what is wrong with the entries of a table page, where that matters before they are used
   */
  constructor(
    file: BlockDevice,
    header: Header,
    written: Uint8Array,
    tableProblem: (view: DataView) => string | undefined = () => undefined,
  ) {
    this.file = file;
    this.header = header;
    this.written = written;
    this.#tableProblem = tableProblem;
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
    const page = this.#tables.get(index);
    if (page !== undefined) this.counts.hits++;
    return page;
  }

  /**
   * The table page with this index; undefined when there is none: all its blocks are unallocated.
   *
   * @throws VimgError `CORRUPT` when the page is damaged, stale or another's
   */
  table(index: number): MaybePromise<MetadataPage | undefined> {
    const cached = this.cachedTable(index);
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
    if (isPromise(page)) return page.then((loaded) => this.keepTable(loaded));
    return this.keepTable(page);
  }

  /** Keeps a table page in memory; the one that is there already wins. */
  keepTable(page: MetadataPage): MetadataPage {
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
    this.counts.misses++;
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
      const page = new MetadataPage(type, index, place, bytes);
      const isTable = type === PAGE_TABLE;
      const problem = pageProblem(bytes, expected) ?? (isTable ? this.#tableProblem(page.view) : undefined);
      const what = isTable ? `table page ${index}` : `directory page ${index}`;
      if (problem !== undefined) throw this.#corrupt(what, place, problem);
      return page;
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
    return (((this.written[index >>> 3] ?? 0) >>> (index & 7)) & 1) === 1;
  }

  /** How many table pages from `index` on, up to `most`, are certain not to exist, when that one does not. */
  absentTables(index: number, most: number): number {
    let next = Math.floor(index / ENTRIES);
    if (this.#mayHold(next)) return 1;
    while (next * ENTRIES - index < most && !this.#mayHold(next)) next++;
    return Math.min(most, next * ENTRIES - index);
  }

  #mayHold(directory: number): boolean {
    return this.isDirectoryWritten(directory) || this.#directories.has(directory);
  }

  /** The directory page that a table page in memory belongs to. */
  directoryOf(tableIndex: number): MetadataPage {
    const directory = this.#directories.get(Math.floor(tableIndex / ENTRIES));
    invariant(directory !== undefined, 'a table page in memory has its directory page in memory');
    return directory;
  }

  /** A directory page is in the transaction that is being taken. */
  markWritten(index: number): void {
    this.written[index >>> 3] = (this.written[index >>> 3] ?? 0) | (1 << (index & 7));
  }

  /** Forgets all pages. They must be the same on disk. */
  clear(): void {
    this.#directories.clear();
    this.#tables.clear();
  }
}

/** Byte offset, in its directory page, of the entry for a table page. */
export function directoryEntryAt(tableIndex: number): number {
  return PAGE_HEADER + (tableIndex % ENTRIES) * ENTRY;
}
