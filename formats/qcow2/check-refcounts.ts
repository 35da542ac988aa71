/** The refcounts that an image keeps, read for a check and held against what was counted. */
import { isVimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckFindings } from './check-findings.ts';
import type { Qcow2Header } from './header.ts';
import { hostOffset } from './l2-table.ts';
import { REFCOUNT_TABLE_LOW_RESERVED, readRefcount, refcountsPerBlock } from './refcount.ts';
import { MARK_NONE, type ReferenceCounts } from './reference-counts.ts';

/** Reads refcount blocks, one at a time. */
export class RefcountReader {
  readonly file: BlockDevice;
  readonly header: Qcow2Header;
  readonly perBlock: number;
  #table: DataView = new DataView(new ArrayBuffer(0));

  constructor(file: BlockDevice, header: Qcow2Header) {
    this.file = file;
    this.header = header;
    this.perBlock = refcountsPerBlock(header.clusterSize, header.refcountBits);
  }

  /** Reads the refcount table, at most 8 MiB. @throws VimgError `IO` */
  async open(): Promise<void> {
    const { refcountTableOffset, refcountTableClusters, clusterSize } = this.header;
    const bytes = new Uint8Array(refcountTableClusters * clusterSize);
    const inside = Math.min(bytes.length, this.file.size - refcountTableOffset);
    await this.file.pread(bytes.subarray(0, inside), refcountTableOffset);
    this.#table = new DataView(bytes.buffer);
  }

  get entries(): number {
    return this.#table.byteLength / 8;
  }

  /** What an entry of the refcount table says: a block's offset, 0 for none, or what is wrong with it. */
  entry(index: number): number | string {
    if (index >= this.entries) return 0;
    const low = this.#table.getUint32(index * 8 + 4);
    const high = this.#table.getUint32(index * 8);
    if ((low & REFCOUNT_TABLE_LOW_RESERVED) !== 0) return 'has reserved bits set';
    // Bits up to 63 belong to the offset here; hostOffset leaves out the highest eight.
    const offset = high > 0x00ff_ffff ? Number.POSITIVE_INFINITY : hostOffset(high, low);
    if (offset >= this.file.size) return 'points past the end of the file';
    if (offset % this.header.clusterSize !== 0) return 'points to a place that is not on a cluster boundary';
    return offset;
  }

  /** The refcount block for these clusters; nothing where there is none, so that all refcounts are 0. */
  async block(index: number): Promise<DataView | undefined> {
    const offset = this.entry(index);
    if (typeof offset === 'string' || offset === 0) return undefined;
    const bytes = new Uint8Array(this.header.clusterSize);
    const inside = Math.min(bytes.length, this.file.size - offset);
    await this.file.pread(bytes.subarray(0, inside), offset);
    return new DataView(bytes.buffer);
  }
}

/** Counts the refcount blocks themselves, which must be in use by nothing else. */
export async function countRefcountBlocks(
  reader: RefcountReader,
  counts: ReferenceCounts,
  findings: CheckFindings,
  first: boolean,
): Promise<void> {
  for (let index = 0; index < reader.entries; index++) {
    const offset = reader.entry(index);
    if (offset === 0) continue;
    if (typeof offset === 'string') {
      if (first)
        findings.corruption('refcount-table-entry', `entry ${index} of the refcount table ${offset}`);
      continue;
    }
    const cluster = offset / reader.header.clusterSize;
    if (cluster < counts.start || cluster >= counts.end) continue;
    counts.add(cluster, 1, MARK_NONE);
    if (counts.get(cluster) !== 1) {
      findings.corruption(
        'refcount-block-shared',
        `refcount block ${index} is also used for something else`,
        {
          fileOffset: offset,
        },
      );
    }
  }
}

/**
 * Holds the refcounts of the image against those counted in the window.
 *
 * @returns the highest cluster in use, −1 when there is none
 */
export async function compareRefcounts(
  reader: RefcountReader,
  counts: ReferenceCounts,
  findings: CheckFindings,
): Promise<number> {
  const { clusterSize, refcountBits } = reader.header;
  const { perBlock } = reader;
  let highest = -1;
  for (let cluster = counts.start; cluster < counts.end; ) {
    const index = Math.floor(cluster / perBlock);
    const block = await readBlock(reader, index, findings);
    const end = Math.min((index + 1) * perBlock, counts.end);
    while (cluster < end) {
      if (block === undefined && counts.emptyPage(cluster)) {
        cluster = Math.min(counts.pageEnd(cluster), end);
        continue;
      }
      const stored = block === undefined ? 0 : readRefcount(block, cluster - index * perBlock, refcountBits);
      const counted = counts.get(cluster);
      const wrongMarks = counts.wrongMarks(cluster, stored);
      if (stored !== 0 || counted !== 0) highest = cluster;
      if (stored !== counted || wrongMarks !== 0) {
        reportCluster(findings, cluster * clusterSize, stored, counted, wrongMarks);
      }
      cluster++;
    }
  }
  return highest;
}

async function readBlock(
  reader: RefcountReader,
  index: number,
  findings: CheckFindings,
): Promise<DataView | undefined> {
  try {
    return await reader.block(index);
  } catch (error) {
    if (!isVimgError(error)) throw error;
    // The block cannot be read: counted, and its clusters are judged as if it were missing.
    findings.checkErrors++;
    return undefined;
  }
}

function reportCluster(
  findings: CheckFindings,
  fileOffset: number,
  stored: number,
  counted: number,
  wrongMarks: number,
): void {
  if (stored < counted) {
    findings.corruption(
      'refcount-too-low',
      `the cluster at ${fileOffset} has refcount ${stored}, used ${counted} times`,
      {
        fileOffset,
      },
    );
  } else if (stored > counted) {
    findings.leak(`the cluster at ${fileOffset} has refcount ${stored}, used ${counted} times`, fileOffset);
  }
  for (let i = 0; i < wrongMarks; i++) {
    findings.corruption(
      'copied-bit',
      `an entry for the cluster at ${fileOffset} has a copied bit that does not fit refcount ${stored}`,
      {
        fileOffset,
      },
    );
  }
}
