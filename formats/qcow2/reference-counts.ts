/**
 * Counts references to host clusters while an image is checked, for one window of the file at a time, so that memory
 * stays bounded however large the file is.
 *
 * Invariant: a page exists only where something was counted, and takes two bytes for each of its clusters: the
 * references, and how many entries of the active tables point there with and without the copied bit.
 */

/** Clusters of one window: 128 MiB of counters at most, 4 TiB of file with clusters of 64 KiB. */
export const WINDOW_CLUSTERS: number = 2 ** 26;
/** Clusters of a page, as a shift: a window has fewer than 2^31 clusters, so whole numbers of 32 bits do. */
const PAGE_BITS = 16;
const PAGE_CLUSTERS: number = 2 ** PAGE_BITS;
const PAGE_MASK: number = PAGE_CLUSTERS - 1;
const SATURATED = 255;

/** How an entry of an active table marks the cluster it points to. */
export const MARK_NONE = 0;
export const MARK_COPIED = 1;
export const MARK_NOT_COPIED = 16;
export type CopiedMark = typeof MARK_NONE | typeof MARK_COPIED | typeof MARK_NOT_COPIED;

interface Page {
  readonly counts: Uint8Array;
  /** Low half: entries with the copied bit; high half: without. Each stops at 15. */
  readonly marks: Uint8Array;
}

export class ReferenceCounts {
  /** First cluster of the window, and the first behind it. */
  readonly start: number;
  readonly end: number;
  readonly #pages: (Page | undefined)[];
  /** Counts too large for a byte. */
  readonly #large = new Map<number, number>();

  constructor(start: number, end: number) {
    this.start = start;
    this.end = end;
    this.#pages = new Array<Page | undefined>(Math.ceil((end - start) / PAGE_CLUSTERS)).fill(undefined);
  }

  /** Counts `weight` references to a cluster; one outside the window is left to another window. */
  add(cluster: number, weight: number, mark: CopiedMark): void {
    if (cluster < this.start || cluster >= this.end) return;
    const at = cluster - this.start;
    const pageIndex = at >>> PAGE_BITS;
    const page = (this.#pages[pageIndex] ??= {
      counts: new Uint8Array(PAGE_CLUSTERS),
      marks: new Uint8Array(PAGE_CLUSTERS),
    });
    const slot = at & PAGE_MASK;
    const count = page.counts[slot] as number;
    if (count + weight < SATURATED) page.counts[slot] = count + weight;
    else {
      this.#large.set(cluster, (this.#large.get(cluster) ?? count) + weight);
      page.counts[slot] = SATURATED;
    }
    if (mark === MARK_NONE) return;
    const marks = page.marks[slot] as number;
    const full = mark === MARK_COPIED ? (marks & 15) === 15 : marks >>> 4 === 15;
    if (!full) page.marks[slot] = marks + mark;
  }

  /** References counted. */
  get(cluster: number): number {
    const at = cluster - this.start;
    const count = this.#pages[at >>> PAGE_BITS]?.counts[at & PAGE_MASK] ?? 0;
    return count === SATURATED ? (this.#large.get(cluster) as number) : count;
  }

  /** Entries of active tables that point to the cluster although its refcount makes their copied bit wrong. */
  wrongMarks(cluster: number, refcount: number): number {
    const at = cluster - this.start;
    const marks = this.#pages[at >>> PAGE_BITS]?.marks[at & PAGE_MASK] ?? 0;
    return refcount === 1 ? marks >>> 4 : marks & 15;
  }

  /** Whether nothing was counted in the page of this cluster; `pageEnd` tells where the next one starts. */
  emptyPage(cluster: number): boolean {
    return this.#pages[(cluster - this.start) >>> PAGE_BITS] === undefined;
  }

  /** First cluster behind the page of this one. */
  pageEnd(cluster: number): number {
    const next = this.start + (((cluster - this.start) >>> PAGE_BITS) + 1) * PAGE_CLUSTERS;
    return Math.min(next, this.end);
  }
}
