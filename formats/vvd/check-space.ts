/**
 * The space list against what is really in use: space that is used must not be listed as free, and space that is
 * neither used nor free is leaked. Leaks are told only when everything in use could be found.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { CheckFindings } from './check-findings.ts';
import type { ImageUnderCheck } from './check-image.ts';
import { fixedRegions, type Region } from './header.ts';
import { FREE_EXTENTS_LIMIT, type FreeExtent, PAGE } from './layout.ts';
import { pageGeneration } from './page.ts';
import { readSpaceList, type SpaceList } from './space-list.ts';

/** The space list, or undefined when it is damaged, which is then reported. */
export async function examineSpaceList(
  image: ImageUnderCheck,
  findings: CheckFindings,
): Promise<SpaceList | undefined> {
  const { header, view, sequence } = image;
  const where = { fileOffset: header.spaceOffset };
  try {
    const list = await readSpaceList(view, header);
    const first = new Uint8Array(PAGE);
    await view.pread(first, header.spaceOffset);
    if (pageGeneration(first) <= sequence) return list;
    findings.corruption('space-list', `The space list is from transaction ${pageGeneration(first)}`, where);
  } catch (error) {
    if (!(error instanceof VimgError)) throw error;
    findings.corruption('space-list', error.message, where);
  }
  return undefined;
}

const HEADER_REGION: Region = { name: 'header', offset: 0, length: 2 * PAGE, used: 2 * PAGE };

/** The header and the regions that it names, as far as they lie among the blocks. */
export function regionsAmongBlocks(image: ImageUnderCheck): Region[] {
  const { header } = image;
  return [HEADER_REGION, ...fixedRegions(header)]
    .filter((region) => region.offset + region.length > header.dataOffset && region.length > 0)
    .map((region) => {
      const before = Math.max(0, header.dataOffset - region.offset);
      return { ...region, offset: region.offset + before, length: region.length - before };
    });
}

/** First byte behind all regions that the header names. */
export function regionsEnd(image: ImageUnderCheck): number {
  return Math.max(...fixedRegions(image.header).map((region) => region.offset + region.length));
}

/** What an audit tells. */
export interface SpaceVerdict {
  /** In use, and the list gives it out. */
  usedButFree(place: number, length: number): void;
  /** Neither in use nor listed. */
  leaked(place: number, length: number): void;
}

const NO_RESERVE: FreeExtent = { place: 0, length: 0 };

/** Takes the runs of space in use, ascending, and compares them with the list. */
export class SpaceAudit {
  /** The largest unused extents: what a rebuilt list holds. */
  #unused: FreeExtent[] = [];
  /** Free extents and the reserve, by place. */
  readonly #listed: readonly FreeExtent[];
  /** Kept for table pages to come: not used, and not free for blocks either. */
  #reserve: FreeExtent = NO_RESERVE;
  readonly #hasList: boolean;
  readonly #spaceEnd: number;
  readonly #verdict: SpaceVerdict;
  #next = 0;
  #cursor: number;

  /** @param spaceEnd first byte behind the space in use, by the list: what follows is free without being listed */
  constructor(list: SpaceList | undefined, dataOffset: number, spaceEnd: number, verdict: SpaceVerdict) {
    const listed = [...(list?.free ?? [])];
    if (list) listed.push({ place: spaceEnd, length: Number.MAX_SAFE_INTEGER - spaceEnd });
    if (list && list.metadataEnd > list.metadataNext) {
      this.#reserve = { place: list.metadataNext, length: list.metadataEnd - list.metadataNext };
      listed.push(this.#reserve);
    }
    this.#listed = listed.sort((a, b) => a.place - b.place);
    this.#hasList = list !== undefined;
    this.#spaceEnd = spaceEnd;
    this.#verdict = verdict;
    this.#cursor = dataOffset;
  }

  /** First byte behind the last run in use. */
  get usedEnd(): number {
    return this.#cursor;
  }

  /** `[from, to)` is in use. */
  used(from: number, to: number): void {
    if (from > this.#cursor) this.#unusedRun(this.#cursor, from);
    for (let i = this.#next; i < this.#listed.length; i++) {
      const extent = this.#listed[i] as FreeExtent;
      if (extent.place >= to) break;
      const place = Math.max(from, extent.place);
      const end = extent.place + extent.length;
      if (end > place) this.#contradiction(extent, place, Math.min(to, end) - place);
      if (end <= to) this.#next = i + 1;
    }
    this.#cursor = to;
  }

  #contradiction(extent: FreeExtent, place: number, length: number): void {
    if (extent === this.#reserve) this.#reserve = NO_RESERVE;
    this.#verdict.usedButFree(place, length);
  }

  /** Nothing is used from here to the end of the space. */
  finish(): void {
    if (this.#hasList && this.#spaceEnd > this.#cursor) this.#compare(this.#cursor, this.#spaceEnd);
  }

  #unusedRun(from: number, to: number): void {
    if (this.#hasList) this.#compare(from, to);
    this.#unused.push({ place: from, length: to - from });
    if (this.#unused.length >= 8 * FREE_EXTENTS_LIMIT) this.#unused = largest(this.#unused);
  }

  /** The parts of an unused run that are not listed are leaked. */
  #compare(from: number, to: number): void {
    let at = from;
    while (this.#next < this.#listed.length) {
      const { place, length } = this.#listed[this.#next] as FreeExtent;
      if (place >= to) break;
      if (place > at) this.#verdict.leaked(at, place - at);
      at = Math.max(at, Math.min(to, place + length));
      if (place + length > to) break;
      this.#next++;
    }
    if (at < to) this.#verdict.leaked(at, to - at);
  }

  /** The list as it should be: everything unused, but for the reserve, as far as it fits. */
  rebuilt(directoriesWritten: Uint8Array): SpaceList {
    const { place, length } = this.#reserve;
    const reserveEnd = place + length;
    const spaceEnd = Math.max(this.#cursor, reserveEnd);
    const unused = [...this.#unused];
    if (spaceEnd > this.#cursor) unused.push({ place: this.#cursor, length: spaceEnd - this.#cursor });
    const free = unused.flatMap((extent) => {
      const end = extent.place + extent.length;
      const before = { place: extent.place, length: Math.min(end, place) - extent.place };
      const from = Math.max(extent.place, reserveEnd);
      return [before, { place: from, length: end - from }].filter((part) => part.length > 0);
    });
    return {
      spaceEnd,
      metadataNext: place,
      metadataEnd: reserveEnd,
      extentCount: Math.min(free.length, FREE_EXTENTS_LIMIT),
      reserved: 0,
      directoriesWritten,
      free: largest(free).sort((a, b) => a.place - b.place),
    };
  }
}

function largest(extents: readonly FreeExtent[]): FreeExtent[] {
  return extents.toSorted((a, b) => b.length - a.length).slice(0, FREE_EXTENTS_LIMIT);
}
