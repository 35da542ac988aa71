/** What a check of a VVD file finds: counted without end, listed up to a bound, so that memory stays bounded too. */
import type { CheckFinding, CheckReport } from '../../src/image/check-report.ts';

/** Where a finding is: offset in the file, and the guest bytes that it touches. */
export type Whereabouts = Pick<CheckFinding, 'fileOffset' | 'guestRange'>;

/** The counters of a report that do not count findings. */
export type CheckCounters = Pick<
  CheckReport,
  'imageEndOffset' | 'totalClusters' | 'allocatedClusters' | 'fragmentedClusters' | 'compressedClusters'
>;

/** Findings listed one by one; the rest is only counted. */
const LISTED_MAX = 10_000;

export class CheckFindings {
  readonly listed: CheckFinding[] = [];
  readonly #kinds = new Set<string>();
  corruptions = 0;
  leaks = 0;

  /** Data is lost or at risk. */
  corruption(kind: string, message: string, where: Whereabouts = {}): void {
    this.corruptions++;
    this.#kinds.add(kind);
    if (this.hasRoom) this.listed.push({ severity: 'corruption', kind, message, ...where });
  }

  /** Space that is taken and used by nothing. */
  leak(message: string, fileOffset: number): void {
    this.leaks++;
    if (this.hasRoom) this.listed.push({ severity: 'leak', kind: 'space-leaked', message, fileOffset });
  }

  /** Whether the next finding will be listed; if not, its message need not be made. */
  get hasRoom(): boolean {
    return this.listed.length < LISTED_MAX;
  }

  /** Whether anything of this kind was found. */
  has(kind: string): boolean {
    return this.#kinds.has(kind);
  }
}
