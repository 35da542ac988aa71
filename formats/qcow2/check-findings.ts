/** What a check finds, counted without end and listed up to a bound. */
import type { CheckFinding } from '../../src/image/check-report.ts';

/** Findings listed one by one; the rest is only counted. */
const LISTED_MAX = 1000;

export class CheckFindings {
  readonly listed: CheckFinding[] = [];
  corruptions = 0;
  leaks = 0;
  /** Reads that failed and kept the check from looking at something. */
  checkErrors = 0;
  #omitted = 0;

  /** Damage: data is lost or at risk. */
  corruption(
    kind: string,
    message: string,
    place: Omit<CheckFinding, 'severity' | 'kind' | 'message'> = {},
  ): void {
    this.corruptions++;
    this.#list({ severity: 'corruption', kind, message, ...place });
  }

  /** Space that is taken and used by nothing. */
  leak(message: string, fileOffset: number): void {
    this.leaks++;
    this.#list({ severity: 'leak', kind: 'cluster-leaked', message, fileOffset });
  }

  #list(finding: CheckFinding): void {
    if (this.listed.length < LISTED_MAX) this.listed.push(finding);
    else this.#omitted++;
  }

  /** The list, with a last line that says how many findings it leaves out. */
  all(): CheckFinding[] {
    if (this.#omitted === 0) return this.listed;
    const message = `${this.#omitted} more findings are counted and not listed`;
    return [
      ...this.listed,
      { severity: this.corruptions > 0 ? 'corruption' : 'leak', kind: 'more', message },
    ];
  }
}
