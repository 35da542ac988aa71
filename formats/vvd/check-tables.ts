/**
 * The walk of a check over directory and table pages.
 *
 * Directory pages are read in groups; the table pages that a group names are read in the order of the file,
 * neighbours in one transfer, and the next transfer runs while a page is looked at. A page that is not whole is told
 * apart from a good one and passed over, unless the journal still holds it.
 */
import { VimgError } from '../../src/base/errors.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import { crc32cBulk } from '../../src/binary/crc32c.ts';
import { parseUuid } from '../../src/binary/uuid.ts';
import type { ImageUnderCheck } from './check-image.ts';
import type { PageImage } from './journal.ts';
import {
  DIRECTORY_MAP_BYTES,
  ENTRIES,
  ENTRY,
  PAGE,
  PAGE_DIRECTORY,
  PAGE_HEADER,
  PAGE_MAGIC,
  PAGE_TABLE,
} from './layout.ts';
import { getU64, pageGeneration, pageIndex, pageProblem, pageType } from './page.ts';

/** What a walk meets. Pages are given as part of a larger buffer that is only good until the call returns. */
export interface TableVisitor {
  /**
   * A directory page is not usable.
   *
   * @param image what the journal holds of the page: the walk goes on with that
   */
  directoryDamaged(index: number, place: number, problem: string, image?: PageImage): void;
  /** A directory page is whole, but the space list says that it was never written: nobody would read it. */
  directoryUnlisted(index: number, place: number): void;
  /** A directory entry names no place that a table page may have. */
  directoryEntryDamaged(table: number, entryPlace: number, place: number): void;
  /** @param image what the journal holds of the page: it is visited as that */
  tableDamaged(table: number, place: number, problem: string, image?: PageImage): void;
  /** A whole table page; its entries start at `base + PAGE_HEADER` of `view`. */
  table(index: number, place: number, view: DataView, base: number): MaybePromise<void>;
}

const DIRECTORIES_A_GROUP = 64;
const BATCH = 1024 * 1024;
/** Pages that are read and not used, to save a transfer. */
const GAP: number = 8 * PAGE;
const MAGIC_WORD: number = Buffer.from(PAGE_MAGIC, 'latin1').readUInt32LE(0);
const CRC_OFFSET = 60;
const TYPE_TABLE_VERSION_1: number = PAGE_TABLE | (1 << 16);

interface Batch {
  /** Positions in the sorted order: `[from, to)`. */
  readonly from: number;
  readonly to: number;
  readonly place: number;
  readonly bytes: Uint8Array;
  /** Undefined when the bytes were read, else why not. */
  readonly done: Promise<VimgError | undefined>;
}

export class TableWalk {
  /** Directory pages that were written, one bit each, as they were found. */
  readonly directoriesFound: Uint8Array = new Uint8Array(DIRECTORY_MAP_BYTES);
  readonly #image: ImageUnderCheck;
  readonly #visitor: TableVisitor;
  /** Called between transfers with the part of the directory that is done. @throws VimgError `CANCELLED` */
  readonly #step: (fraction: number) => void;
  readonly #buffers: readonly [Uint8Array, Uint8Array] = [new Uint8Array(BATCH), new Uint8Array(BATCH)];
  readonly #indexes: Float64Array = new Float64Array(DIRECTORIES_A_GROUP * ENTRIES);
  readonly #places: Float64Array = new Float64Array(DIRECTORIES_A_GROUP * ENTRIES);
  readonly #generations: Float64Array = new Float64Array(DIRECTORIES_A_GROUP * ENTRIES);
  readonly #uuidWords: Int32Array;
  #count = 0;

  constructor(image: ImageUnderCheck, visitor: TableVisitor, step: (fraction: number) => void) {
    this.#image = image;
    this.#visitor = visitor;
    this.#step = step;
    this.#uuidWords = new Int32Array(Uint8Array.from(parseUuid(image.header.diskUuid)).buffer);
  }

  async run(): Promise<void> {
    const { directoryPages } = this.#image.header;
    for (let first = 0; first < directoryPages; first += DIRECTORIES_A_GROUP) {
      this.#step(first / directoryPages);
      const count = Math.min(DIRECTORIES_A_GROUP, directoryPages - first);
      this.#count = 0;
      await this.#readDirectories(first, count);
      await this.#readTables(first / directoryPages);
    }
  }

  async #readDirectories(first: number, count: number): Promise<void> {
    const { view, header } = this.#image;
    const place = header.directoryOffset + first * PAGE;
    const inFile = Math.max(0, Math.min(count * PAGE, view.size - place));
    const bytes = this.#buffers[0].subarray(0, inFile);
    const failure = await readOrFail(this.#image, bytes, place);
    for (let i = 0; i < count; i++) {
      const page = bytes.subarray(i * PAGE, (i + 1) * PAGE);
      await this.#directory(first + i, place + i * PAGE, page, failure !== undefined);
    }
  }

  async #directory(index: number, place: number, bytes: Uint8Array, again: boolean): Promise<void> {
    const written = this.#wasWritten(index);
    if (written === false && bytes.length < PAGE) return;
    let page = bytes;
    const problem = await this.#directoryProblem(index, place, bytes, again);
    if (problem !== undefined) {
      // one that was never written may be anything; without the list, zeroes tell
      if (!(written ?? !isZero(bytes))) return;
      const image = this.#journaledDirectory(place);
      this.#visitor.directoryDamaged(index, place, problem, image);
      if (!image) return;
      page = image.page;
    } else if (written === false) {
      this.#visitor.directoryUnlisted(index, place);
    }
    (this.directoriesFound[index >>> 3] as number) |= 1 << (index & 7);
    this.#collectEntries(index, place, page);
  }

  /** What the space list says; undefined when that is damaged. */
  #wasWritten(index: number): boolean | undefined {
    const map = this.#image.directoriesWritten;
    return map && (((map[index >>> 3] as number) >>> (index & 7)) & 1) === 1;
  }

  /** @param again a transfer of several pages failed: which of them cannot be read? */
  async #directoryProblem(
    index: number,
    place: number,
    page: Uint8Array,
    again: boolean,
  ): Promise<string | undefined> {
    if (page.length < PAGE) return 'it passes the end of the file';
    const failure = again ? await readOrFail(this.#image, page, place) : undefined;
    if (failure) return failure.message;
    const { header, sequence } = this.#image;
    const problem = pageProblem(page, { type: PAGE_DIRECTORY, index, diskUuid: header.diskUuid, place });
    if (problem !== undefined || pageGeneration(page) <= sequence) return problem;
    return `it is from transaction ${pageGeneration(page)}, and the last one is ${sequence}`;
  }

  /** The last image of a directory page, when it can be proven to be the last. */
  #journaledDirectory(place: number): PageImage | undefined {
    const { journal, sequence } = this.#image;
    for (const [i, transaction] of journal.entries()) {
      if (transaction.sequence !== sequence - i) return undefined;
      const image = transaction.images.find((candidate) => candidate.home === place);
      if (image && pageType(image.page) === PAGE_DIRECTORY) return image;
    }
    return undefined;
  }

  #collectEntries(directory: number, directoryPlace: number, page: Uint8Array): void {
    const view = new DataView(page.buffer, page.byteOffset, PAGE);
    const { dataOffset } = this.#image.header;
    const limit = this.#image.view.size - PAGE;
    for (let slot = 0; slot < ENTRIES; slot++) {
      const at = PAGE_HEADER + slot * ENTRY;
      const place = getU64(view, at);
      const generation = getU64(view, at + 8);
      if (place === 0 && generation === 0) continue;
      const table = directory * ENTRIES + slot;
      if (place % PAGE !== 0 || place < dataOffset || place > limit) {
        this.#visitor.directoryEntryDamaged(table, directoryPlace + at, place);
        continue;
      }
      this.#indexes[this.#count] = table;
      this.#places[this.#count] = place;
      this.#generations[this.#count] = generation;
      this.#count++;
    }
  }

  async #readTables(fraction: number): Promise<void> {
    const order = this.#orderByPlace();
    let batch = this.#startBatch(order, 0, 0);
    for (let turn = 1; batch; turn++) {
      const next = this.#startBatch(order, batch.to, turn % 2);
      const failure = await batch.done;
      for (let at = batch.from; at < batch.to; at++) {
        const waiting = failure
          ? this.#tableAlone(order[at] as number)
          : this.#tableIn(batch, order[at] as number);
        if (isPromise(waiting)) await waiting;
      }
      batch = next;
      this.#step(fraction);
    }
  }

  /** Entries of the group in the order of the file. */
  #orderByPlace(): Uint32Array {
    const order = new Uint32Array(this.#count);
    let sorted = true;
    for (let i = 0; i < this.#count; i++) {
      order[i] = i;
      if (i > 0 && (this.#places[i] as number) < (this.#places[i - 1] as number)) sorted = false;
    }
    const places = this.#places;
    return sorted ? order : order.sort((a, b) => (places[a] as number) - (places[b] as number));
  }

  #startBatch(order: Uint32Array, from: number, which: 0 | 1 | number): Batch | undefined {
    if (from >= order.length) return undefined;
    const place = this.#places[order[from] as number] as number;
    let end = place + PAGE;
    let to = from + 1;
    for (; to < order.length; to++) {
      const next = this.#places[order[to] as number] as number;
      if (next > end + GAP || next + PAGE - place > BATCH) break;
      end = next + PAGE;
    }
    const bytes = (this.#buffers[which] as Uint8Array).subarray(0, end - place);
    return { from, to, place, bytes, done: readOrFail(this.#image, bytes, place) };
  }

  #tableIn(batch: Batch, entry: number): MaybePromise<void> {
    const at = (this.#places[entry] as number) - batch.place;
    return this.#table(entry, batch.bytes, at);
  }

  /** After a transfer failed: which of its pages cannot be read? */
  async #tableAlone(entry: number): Promise<void> {
    const place = this.#places[entry] as number;
    const page = new Uint8Array(PAGE);
    const failure = await readOrFail(this.#image, page, place);
    if (failure) await this.#damagedTable(entry, failure.message);
    else await this.#table(entry, page, 0);
  }

  #table(entry: number, bytes: Uint8Array, at: number): MaybePromise<void> {
    const index = this.#indexes[entry] as number;
    const place = this.#places[entry] as number;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    if (this.#isWhole(entry, bytes, view, at)) return this.#visitor.table(index, place, view, at);
    const problem = pageProblem(bytes.subarray(at, at + PAGE), {
      type: PAGE_TABLE,
      index,
      diskUuid: this.#image.header.diskUuid,
      place,
      generation: this.#generations[entry] as number,
    });
    return this.#damagedTable(entry, problem ?? 'its header is not as it must be');
  }

  /** What `pageProblem` asks, cheapest first, without anything allocated. */
  #isWhole(entry: number, bytes: Uint8Array, view: DataView, at: number): boolean {
    const uuid = this.#uuidWords;
    if (
      view.getUint32(at, true) !== MAGIC_WORD ||
      view.getUint32(at + 4, true) !== TYPE_TABLE_VERSION_1 ||
      getU64(view, at + 8) !== this.#indexes[entry] ||
      getU64(view, at + 32) !== this.#generations[entry] ||
      getU64(view, at + 40) !== this.#places[entry]
    ) {
      return false;
    }
    for (let word = 0; word < 4; word++) {
      if (view.getInt32(at + 16 + word * 4, true) !== uuid[word]) return false;
    }
    const stored = view.getUint32(at + CRC_OFFSET, true);
    view.setUint32(at + CRC_OFFSET, 0, true);
    const computed = crc32cBulk(bytes.subarray(at, at + PAGE));
    view.setUint32(at + CRC_OFFSET, stored, true);
    return computed === stored;
  }

  #damagedTable(entry: number, problem: string): MaybePromise<void> {
    const index = this.#indexes[entry] as number;
    const place = this.#places[entry] as number;
    const image = this.#journaledTable(index, place, this.#generations[entry] as number);
    this.#visitor.tableDamaged(index, place, problem, image);
    if (!image) return;
    const { buffer, byteOffset } = image.page;
    return this.#visitor.table(index, place, new DataView(buffer, byteOffset, PAGE), 0);
  }

  /** The image of a table page with exactly the generation that the directory asks for. */
  #journaledTable(index: number, place: number, generation: number): PageImage | undefined {
    return this.#image.journal
      .filter((transaction) => transaction.sequence === generation)
      .flatMap((transaction) => transaction.images)
      .find(({ home, page }) => home === place && pageType(page) === PAGE_TABLE && pageIndex(page) === index);
  }
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** @returns why the bytes could not be read, if so */
async function readOrFail(
  image: ImageUnderCheck,
  bytes: Uint8Array,
  place: number,
): Promise<VimgError | undefined> {
  try {
    await image.view.pread(bytes, place);
    return undefined;
  } catch (error) {
    if (error instanceof VimgError) return error;
    throw error;
  }
}
