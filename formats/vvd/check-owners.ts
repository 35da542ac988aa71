/**
 * Who shares a place with whom: a second walk, over an image in which places are used twice, that names everything
 * that lies there.
 */
import type { CheckFindings } from './check-findings.ts';
import { guestRange, type ImageUnderCheck } from './check-image.ts';
import type { TableVisitor } from './check-tables.ts';
import { allocatedOf, entryAt, KIND_COMPRESSED, KIND_DATA, kindOf, placeOf } from './entry.ts';
import type { PageImage } from './journal.ts';
import { ENTRIES, PAGE } from './layout.ts';
import { CONFLICTS_MAX, type PlaceRange } from './place-map.ts';

interface Owner {
  readonly name: string;
  readonly place: number;
  readonly length: number;
  /** −1: no block. */
  readonly block: number;
  /** −1: no table page. */
  readonly table: number;
}

export class OwnerTrace implements TableVisitor {
  readonly #image: ImageUnderCheck;
  /** Sorted, apart from each other. */
  readonly #conflicts: readonly PlaceRange[];
  readonly #owners: Owner[] = [];
  #leftOut = 0;

  constructor(image: ImageUnderCheck, conflicts: readonly PlaceRange[]) {
    this.#image = image;
    this.#conflicts = joined(conflicts);
  }

  /** A region that the header names. */
  region(name: string, place: number, length: number): void {
    if (this.#isShared(place, length)) this.#add({ name, place, length, block: -1, table: -1 });
  }

  directoryDamaged(): void {
    // told by the first walk
  }

  directoryUnlisted(): void {
    // told by the first walk
  }

  directoryEntryDamaged(): void {
    // told by the first walk
  }

  tableDamaged(table: number, place: number, _problem: string, image?: PageImage): void {
    if (!image) this.#page(table, place);
  }

  table(index: number, place: number, view: DataView, base: number): void {
    this.#page(index, place);
    for (let slot = 0; slot < ENTRIES; slot++) {
      const at = base + entryAt(slot);
      const kind = kindOf(view, at);
      if (kind !== KIND_DATA && kind !== KIND_COMPRESSED) continue;
      const length = kind === KIND_DATA ? this.#image.blockSize : allocatedOf(view, at);
      const blockPlace = placeOf(view, at);
      if (blockPlace <= 0 || !this.#isShared(blockPlace, length)) continue;
      const block = index * ENTRIES + slot;
      this.#add({ name: `block ${block}`, place: blockPlace, length, block, table: -1 });
    }
  }

  #page(table: number, place: number): void {
    if (this.#isShared(place, PAGE)) {
      this.#add({ name: `table page ${table}`, place, length: PAGE, block: -1, table });
    }
  }

  #add(owner: Owner): void {
    if (this.#owners.length < 2 * CONFLICTS_MAX) this.#owners.push(owner);
    else this.#leftOut++;
  }

  #isShared(place: number, length: number): boolean {
    let low = 0;
    let high = this.#conflicts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const range = this.#conflicts[middle] as PlaceRange;
      if (range.place + range.length > place) high = middle;
      else low = middle + 1;
    }
    const range = this.#conflicts[low];
    return range !== undefined && range.place < place + length;
  }

  /** One finding for each block and page that shares its place, naming another one that does. */
  report(findings: CheckFindings): void {
    const owners = this.#owners.sort((a, b) => a.place - b.place);
    let longest: Owner | undefined;
    for (const [i, owner] of owners.entries()) {
      const next = owners[i + 1];
      const overlapsBefore = longest && longest.place + longest.length > owner.place;
      const other = overlapsBefore ? longest : next;
      if (other && other.place < owner.place + owner.length) this.#reportOwner(owner, other, findings);
      if (!longest || owner.place + owner.length > longest.place + longest.length) longest = owner;
    }
    for (let i = 0; i < this.#leftOut; i++) findings.corruption('block-shared', '');
  }

  #reportOwner(owner: Owner, other: Owner, findings: CheckFindings): void {
    if (owner.block < 0 && owner.table < 0) return; // the block in a region is reported
    const isBlock = owner.block >= 0;
    const guest = isBlock
      ? guestRange(this.#image, owner.block, 1)
      : guestRange(this.#image, owner.table * ENTRIES, ENTRIES);
    const ownKind = isBlock ? 'block' : 'table-page';
    const kind = isBlock && other.block < 0 ? 'block-overlaps-metadata' : `${ownKind}-shared`;
    findings.corruption(kind, `${owner.name} shares its place ${owner.place} with ${other.name}`, {
      fileOffset: owner.place,
      ...(guest ? { guestRange: guest } : {}),
    });
  }
}

/** Sorted by place, overlapping ones joined. */
function joined(ranges: readonly PlaceRange[]): PlaceRange[] {
  const result: PlaceRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.place - b.place)) {
    const last = result[result.length - 1];
    if (last && range.place <= last.place + last.length) {
      const end = Math.max(last.place + last.length, range.place + range.length);
      result[result.length - 1] = { place: last.place, length: end - last.place };
    } else {
      result.push(range);
    }
  }
  return result;
}
