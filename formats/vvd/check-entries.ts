/**
 * The judgement of a check over every entry of the allocation table: may it be what it says, and is its place its
 * own? One pass for each window of the place map; findings and statistics are taken in the first.
 */
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import type { CheckFindings, Whereabouts } from './check-findings.ts';
import { DIRECTORY_BLOCKS, guestRange, type ImageUnderCheck } from './check-image.ts';
import type { TableVisitor } from './check-tables.ts';
import {
  allocatedOf,
  KIND_COMPRESSED,
  KIND_DATA,
  KIND_UNALLOCATED,
  KIND_ZERO,
  kindOf,
  placeOf,
  zeroOf,
} from './entry.ts';
import type { PageImage } from './journal.ts';
import { COMPRESSION_NONE, ENTRIES, ENTRY, INTENT_TRIM, PAGE, PAGE_HEADER, SUB_BLOCKS } from './layout.ts';
import type { PlaceMap } from './place-map.ts';

/** Pages that one step of an entry's upper half stands for. */
const PAGES_A_HIGH: number = 0x1_0000_0000 / PAGE;

/** What the first pass counts. */
export interface EntryStatistics {
  allocated: number;
  fragmented: number;
  compressed: number;
}

/** Looks at the data of whole table pages, where that is asked for. */
export interface DataCheck {
  table(index: number, view: DataView, base: number): Promise<void>;
}

export class EntryCheck implements TableVisitor {
  readonly statistics: EntryStatistics = { allocated: 0, fragmented: 0, compressed: 0 };
  /** Every directory and table page could be read, and every entry may be what it says. */
  complete = true;
  /** Pages that are damaged on disk and whole in the journal. */
  readonly restorables: PageImage[] = [];
  readonly #image: ImageUnderCheck;
  readonly #findings: CheckFindings;
  readonly #places: PlaceMap;
  /** First byte behind the space in use, by the space list. */
  readonly #spaceEnd: number;
  readonly #data: DataCheck | undefined;
  readonly #fileEnd: number;
  #first = true;

  constructor(
    image: ImageUnderCheck,
    findings: CheckFindings,
    places: PlaceMap,
    spaceEnd: number,
    data: DataCheck | undefined,
  ) {
    this.#image = image;
    this.#findings = findings;
    this.#places = places;
    this.#spaceEnd = spaceEnd;
    this.#data = data;
    this.#fileEnd = image.view.size;
  }

  get isFirstPass(): boolean {
    return this.#first;
  }

  /** From now on pages are only marked. */
  endFirstPass(): void {
    this.#first = false;
  }

  directoryDamaged(index: number, place: number, problem: string, image?: PageImage): void {
    if (!this.#first) return;
    this.#keep(image);
    this.#report('directory-page', `directory page ${index}: ${problem}`, place, this.#directoryRange(index));
  }

  directoryUnlisted(index: number, place: number): void {
    if (!this.#first) return;
    const message = `directory page ${index}: the space list says that it was never written`;
    this.#report('directory-unlisted', message, place, this.#directoryRange(index));
  }

  #directoryRange(index: number): Whereabouts['guestRange'] {
    return guestRange(this.#image, index * DIRECTORY_BLOCKS, DIRECTORY_BLOCKS);
  }

  directoryEntryDamaged(table: number, entryPlace: number, place: number): void {
    if (!this.#first) return;
    this.complete = false;
    const message = `the directory names an impossible place for table page ${table}: ${place}`;
    this.#report('directory-entry', message, entryPlace, this.#tableRange(table));
  }

  tableDamaged(table: number, place: number, problem: string, image?: PageImage): void {
    if (!image) this.#places.mark(place, PAGE);
    if (!this.#first) return;
    this.#keep(image);
    if (!this.#findings.hasRoom) this.#findings.corruption('table-page', '');
    else this.#report('table-page', `table page ${table}: ${problem}`, place, this.#tableRange(table));
  }

  /** What the journal holds of a damaged page is as good as the page. */
  #keep(image: PageImage | undefined): void {
    if (image) this.restorables.push(image);
    else this.complete = false;
  }

  #tableRange(table: number): Whereabouts['guestRange'] {
    return guestRange(this.#image, table * ENTRIES, ENTRIES);
  }

  #report(kind: string, message: string, fileOffset: number, guest: Whereabouts['guestRange']): void {
    this.#findings.corruption(kind, message, { fileOffset, ...(guest ? { guestRange: guest } : {}) });
  }

  /**
   * Most entries are data, sound, and lie side by side: those are taken in whole runs, with integers only. Any other
   * entry is judged on its own.
   */
  table(index: number, place: number, view: DataView, base: number): MaybePromise<void> {
    this.#places.mark(place, PAGE);
    const { blockSize, blocks, header } = this.#image;
    const firstBlock = index * ENTRIES;
    const blockPages = blockSize / PAGE;
    const lowestPage = header.dataOffset / PAGE;
    // at the end of the disk every entry is judged
    const highestPage = firstBlock + ENTRIES <= blocks ? Math.floor(this.#fileEnd / PAGE) - blockPages : -1;
    let runPage = 0;
    let nextPage = 0;
    let allocated = 0;
    let runs = 0;
    for (let slot = 0, at = base + PAGE_HEADER; slot < ENTRIES; slot++, at += ENTRY) {
      const low = view.getInt32(at, true);
      const maps = view.getInt32(at + 8, true) & view.getInt32(at + 12, true);
      let page = view.getInt32(at + 4, true) * PAGES_A_HIGH + (low >>> 12);
      if ((low & 0xfff) !== KIND_DATA || page < lowestPage || page > highestPage || maps !== 0) {
        page = this.#judge(view, at, firstBlock + slot, place - base + at) / PAGE;
        if (page === 0) continue;
      }
      allocated++;
      if (page !== nextPage) {
        if (nextPage !== 0) this.#places.markBlocks(runPage, (nextPage - runPage) / blockPages);
        runPage = page;
        runs++;
      }
      nextPage = page + blockPages;
    }
    if (nextPage !== 0) this.#places.markBlocks(runPage, (nextPage - runPage) / blockPages);
    if (!this.#first) return;
    this.statistics.allocated += allocated;
    this.statistics.fragmented += Math.max(0, runs - 1);
    return this.#data?.table(index, view, base);
  }

  /** One entry on its own. @returns the place of a sound data block, or 0 */
  #judge(view: DataView, at: number, block: number, entryPlace: number): number {
    const kind = kindOf(view, at);
    if (kind !== KIND_DATA) {
      if (!isEmpty(view, at)) this.#other(view, at, kind, block, entryPlace);
      return 0;
    }
    const place = placeOf(view, at);
    if (!this.#dataIsSound(view, at, place, block, entryPlace) || place === 0) return 0;
    if (block >= this.#image.blocks) this.#behindEnd(block, entryPlace);
    return place;
  }

  /** Whether a data entry may be what it says; reports it if not. */
  #dataIsSound(view: DataView, at: number, place: number, block: number, entryPlace: number): boolean {
    const allocated = view.getUint32(at + 8, true);
    const zero = view.getUint32(at + 12, true);
    const { header, blockSize, view: file } = this.#image;
    if ((allocated & zero) !== 0 || (place === 0 && allocated !== 0)) {
      const why =
        place === 0 ? 'stores sub-blocks and has no place' : 'has sub-blocks that are both stored and zero';
      return this.#damaged('entry-contradiction', `a data block ${why}`, block, entryPlace);
    }
    if (place === 0) return true;
    if (place > 0 && place % PAGE !== 0)
      return this.#damaged('block-misaligned', `its place is ${place}`, block, entryPlace);
    // −1 stands for a place past 2^53
    if (place < header.dataOffset || (place >= file.size && place + blockSize > this.#spaceEnd)) {
      return this.#damaged('block-outside', `its place ${place} is outside the data`, block, entryPlace);
    }
    if (place + blockSize > file.size) {
      const stored = (SUB_BLOCKS - Math.clz32(allocated)) * (blockSize / SUB_BLOCKS);
      if (place + stored > file.size) {
        return this.#damaged(
          'block-past-end',
          `its place ${place} passes the end of the file`,
          block,
          entryPlace,
        );
      }
    }
    return true;
  }

  /** Entries that are neither data nor empty. */
  #other(view: DataView, at: number, kind: number, block: number, entryPlace: number): void {
    const place = placeOf(view, at);
    switch (kind) {
      case KIND_COMPRESSED:
        this.#compressed(view, at, place, block, entryPlace);
        return;
      case KIND_UNALLOCATED:
      case KIND_ZERO:
        if (place !== 0 || allocatedOf(view, at) !== 0 || zeroOf(view, at) !== 0) {
          const what = kind === KIND_ZERO ? 'a zero' : 'an unallocated';
          this.#damaged('entry-contradiction', `${what} entry with bits set`, block, entryPlace);
        }
        return;
      default:
        this.#damaged('entry-kind', `unknown kind ${kind}`, block, entryPlace);
    }
  }

  #compressed(view: DataView, at: number, place: number, block: number, entryPlace: number): void {
    const { header, blockSize, view: file, blocks } = this.#image;
    const length = allocatedOf(view, at);
    if (header.compression === COMPRESSION_NONE) {
      this.#damaged('entry-kind', 'compressed in an image without compression', block, entryPlace);
    } else if (length === 0 || length > blockSize) {
      this.#damaged('block-length', `its compressed length is ${length}`, block, entryPlace);
    } else if (place < header.dataOffset) {
      this.#damaged('block-outside', `its place ${place} is outside the data`, block, entryPlace);
    } else if (place + length > file.size) {
      this.#damaged('block-past-end', `its place ${place} passes the end of the file`, block, entryPlace);
    } else {
      this.#places.markPacked(place, length);
      if (block >= blocks) this.#behindEnd(block, entryPlace);
      if (!this.#first) return;
      this.statistics.allocated++;
      this.statistics.fragmented++;
      this.statistics.compressed++;
    }
  }

  /** @returns false, for the entry is not sound */
  #damaged(kind: string, problem: string, block: number, entryPlace: number): false {
    if (!this.#first) return false;
    this.complete = false;
    this.#report(kind, `block ${block}: ${problem}`, entryPlace, guestRange(this.#image, block, 1));
    return false;
  }

  /** What is mapped behind the end of the disk would come back when the disk grows. */
  #behindEnd(block: number, entryPlace: number): void {
    if (!this.#first || this.#image.header.intent === INTENT_TRIM) return;
    this.#report(
      'entry-behind-end',
      `block ${block} is mapped behind the end of the disk`,
      entryPlace,
      undefined,
    );
  }
}

/** The entry of a block that nothing is said about. */
function isEmpty(view: DataView, at: number): boolean {
  return (
    view.getInt32(at, true) === 0 &&
    view.getInt32(at + 4, true) === 0 &&
    view.getInt32(at + 8, true) === 0 &&
    view.getInt32(at + 12, true) === 0
  );
}
