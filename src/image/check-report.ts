/** What a check found. Keys follow `qemu-img check --output=json` where it has them. */

/** One thing that is wrong. */
export interface CheckFinding {
  /** `corruption`: data is lost or at risk. `leak`: space is wasted, nothing more. */
  readonly severity: 'corruption' | 'leak';
  /** Stable words for scripts: `table-page-checksum`, `block-shared`, … */
  readonly kind: string;
  readonly message: string;
  /** Byte offset in the file. */
  readonly fileOffset?: number;
  /** Guest bytes that the damage touches. */
  readonly guestRange?: { readonly offset: number; readonly length: number };
  readonly repaired?: boolean;
}

export interface CheckReport {
  readonly format: string;
  readonly findings: readonly CheckFinding[];
  /** Corruptions and leaks that remain, and those repaired. */
  readonly corruptions: number;
  readonly leaks: number;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  /** Problems that kept the check from looking at everything. */
  readonly checkErrors: number;
  /** Highest byte in use. */
  readonly imageEndOffset: number;
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
}
