/**
 * Which L2 tables the L1 tables of an image point to, for a check.
 *
 * Snapshots share L2 tables with each other and with the active image. Here each table is listed once, with the
 * number of L1 entries that point to it, in the order of the file: so a check reads each table once and front to
 * back, however many snapshots there are.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckFindings } from './check-findings.ts';
import { HIGH_COPIED, hostOffset, L1_HIGH_RESERVED, L1_LOW_RESERVED } from './l2-table.ts';

/** L1 entries of all snapshots together that a check looks at, and distinct L2 tables that it keeps. */
const ENTRIES_MAX: number = 64 * 1024 * 1024;
const TABLES_MAX: number = 16 * 1024 * 1024;

/** An L1 table: whose, where, how many entries. */
export interface L1Root {
  readonly what: string;
  readonly offset: number;
  readonly entries: number;
  readonly active: boolean;
}

export class L2Inventory {
  /** Offsets of the tables, ascending. */
  offsets: Float64Array = new Float64Array(0);
  /** L1 entries that point to each. */
  weights: Uint32Array = new Uint32Array(0);
  /** L1 entries of the active table that point to each. */
  activeWeights: Uint32Array = new Uint32Array(0);
  /** Clusters of L2 tables that the active L1 table points to with a copied bit, and without. */
  readonly copied: number[] = [];
  readonly notCopied: number[] = [];
  /** The same for tables past the end of the file. */
  readonly outside: { readonly cluster: number; readonly copied: boolean }[] = [];
  #entriesSeen = 0;

  /**
   * Adds the tables of one L1 table.
   *
   * @throws VimgError `LIMIT` when there are more than a check looks at, `IO`
   */
  async add(file: BlockDevice, root: L1Root, clusterSize: number, findings: CheckFindings): Promise<void> {
    this.#entriesSeen += root.entries;
    if (this.#entriesSeen > ENTRIES_MAX) {
      throw new VimgError('LIMIT', 'the snapshots have more L1 entries than a check looks at', {
        op: 'check',
      });
    }
    const bytes = new Uint8Array(root.entries * 8);
    const readable = Math.max(0, Math.min(bytes.length, file.size - root.offset));
    if (readable > 0) await file.pread(bytes.subarray(0, readable), root.offset);
    const view = new DataView(bytes.buffer);
    const found = new Float64Array(root.entries);
    let count = 0;
    for (let index = 0; index < root.entries; index++) {
      const high = view.getUint32(index * 8);
      const low = view.getUint32(index * 8 + 4);
      if (high === 0 && low === 0) continue;
      const offset = hostOffset(high, low);
      const where = `L1 entry ${index} of ${root.what}`;
      if ((high & L1_HIGH_RESERVED) !== 0 || (low & L1_LOW_RESERVED) !== 0) {
        findings.corruption('l1-entry-reserved', `${where} has reserved bits set`, {
          fileOffset: root.offset + index * 8,
        });
      }
      if (offset === 0) continue;
      if (offset % clusterSize !== 0) {
        findings.corruption(
          'l2-table-misaligned',
          `${where} points to ${offset}, which is not on a cluster boundary`,
        );
      } else if (offset >= file.size) {
        findings.corruption('l2-table-outside', `${where} points to ${offset}, past the end of the file`);
        if (root.active) {
          this.outside.push({
            cluster: Math.floor(offset / clusterSize),
            copied: (high & HIGH_COPIED) !== 0,
          });
        }
      } else {
        if (root.active) (high & HIGH_COPIED ? this.copied : this.notCopied).push(offset / clusterSize);
        found[count++] = offset;
      }
    }
    this.#merge(found.subarray(0, count).sort(), root.active);
  }

  /** Merges sorted offsets, repeated ones included, into the sorted list. */
  #merge(found: Float64Array, active: boolean): void {
    const total = this.offsets.length + found.length;
    const offsets = new Float64Array(total);
    const weights = new Uint32Array(total);
    const activeWeights = new Uint32Array(total);
    let length = 0;
    let old = 0;
    for (let at = 0; old < this.offsets.length || at < found.length; ) {
      const known = old < this.offsets.length ? (this.offsets[old] as number) : Number.POSITIVE_INFINITY;
      const next = at < found.length ? (found[at] as number) : Number.POSITIVE_INFINITY;
      const offset = Math.min(known, next);
      offsets[length] = offset;
      if (known === offset) {
        weights[length] = this.weights[old] as number;
        activeWeights[length] = this.activeWeights[old] as number;
        old++;
      }
      for (; found[at] === offset; at++) {
        weights[length] = (weights[length] as number) + 1;
        if (active) activeWeights[length] = (activeWeights[length] as number) + 1;
      }
      length++;
    }
    if (length > TABLES_MAX) {
      throw new VimgError('LIMIT', `the image has more than ${TABLES_MAX} L2 tables`, { op: 'check' });
    }
    // Copied, so that the longer arrays of the merge are freed.
    this.offsets = offsets.slice(0, length);
    this.weights = weights.slice(0, length);
    this.activeWeights = activeWeights.slice(0, length);
  }
}
