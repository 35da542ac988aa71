/** The refcounts that an image keeps, read for a check and held against what was counted. */
import { isVimgError, VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckFindings } from './check-findings.ts';
import type { Qcow2Header } from './header.ts';
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

  /** What an entry of the refcount table says: where the block is (0 for none), and what is wrong with that. */
  entry(index: number): RefcountTableEntry {
    if (index >= this.entries) return { offset: 0, problem: undefined, readable: true };
    const high = this.#table.getUint32(index * 8);
    const low = this.#table.getUint32(index * 8 + 4);
    // Bits up to 63 belong to the offset here; past 2^53 it is not exact, but past any end.
    const offset = high * 0x1_0000_0000 + (low - (low & REFCOUNT_TABLE_LOW_RESERVED));
    let problem: string | undefined;
    if (offset >= this.file.size) problem = 'points past the end of the file';
    else if (offset % this.header.clusterSize !== 0) problem = 'points to no cluster boundary';
    const readable = problem === undefined || (offset >= this.file.size && offset < 2 ** 63);
    if ((low & REFCOUNT_TABLE_LOW_RESERVED) !== 0) problem = 'has reserved bits set';
    return { offset, problem, readable };
  }

  /**
   * The refcount block for these clusters; nothing where there is none, so that all refcounts are 0.
   *
   * @throws VimgError `CORRUPT` when the table points to no block, `IO`
   */
  async block(index: number): Promise<DataView | undefined> {
    const { offset, problem, readable } = this.entry(index);
    if (!readable) throw new VimgError('CORRUPT', `entry ${index} of the refcount table ${problem}`);
    // What would be past the end reads as zeroes, as it does for qemu-img.
    if (offset === 0 || offset >= this.file.size) return undefined;
    const bytes = new Uint8Array(this.header.clusterSize);
    const inside = Math.min(bytes.length, this.file.size - offset);
    await this.file.pread(bytes.subarray(0, inside), offset);
    return new DataView(bytes.buffer);
  }
}

interface RefcountTableEntry {
  readonly offset: number;
  readonly problem: string | undefined;
  /** Whether the offset can be that of a block. */
  readonly readable: boolean;
}

/** Counts the refcount blocks themselves, which must be in use by nothing else. */
export async function countRefcountBlocks(
  reader: RefcountReader,
  counts: ReferenceCounts,
  findings: CheckFindings,
  first: boolean,
): Promise<void> {
  for (let index = 0; index < reader.entries; index++) {
    const { offset, problem } = reader.entry(index);
    if (problem !== undefined) {
      if (first)
        findings.corruption('refcount-table-entry', `entry ${index} of the refcount table ${problem}`);
      continue;
    }
    if (offset === 0) continue;
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
 * @param fileClusters clusters of the file; behind them only what is referenced counts
 * @returns the highest cluster in use, −1 when there is none
 */
export async function compareRefcounts(
  reader: RefcountReader,
  counts: ReferenceCounts,
  findings: CheckFindings,
  fileClusters: number,
): Promise<number> {
  let highest = -1;
  for (let cluster = counts.start; cluster < counts.end; ) {
    const index = Math.floor(cluster / reader.perBlock);
    const end = Math.min((index + 1) * reader.perBlock, counts.end);
    const block = await readBlock(reader, index, findings, Math.min(end, fileClusters) - cluster);
    if (block !== 'unreadable') {
      highest = Math.max(highest, compareBlock(reader, counts, findings, fileClusters, block, cluster, end));
    }
    cluster = end;
  }
  return highest;
}

function compareBlock(
  reader: RefcountReader,
  counts: ReferenceCounts,
  findings: CheckFindings,
  fileClusters: number,
  block: DataView | undefined,
  start: number,
  end: number,
): number {
  const { clusterSize, refcountBits } = reader.header;
  const first = Math.floor(start / reader.perBlock) * reader.perBlock;
  let highest = -1;
  for (let cluster = start; cluster < end; ) {
    if (block === undefined && counts.emptyPage(cluster)) {
      cluster = Math.min(counts.pageEnd(cluster), end);
      continue;
    }
    const stored = block === undefined ? 0 : readRefcount(block, cluster - first, refcountBits);
    const counted = counts.get(cluster);
    if (cluster < fileClusters || counted !== 0) {
      const wrongMarks = counts.wrongMarks(cluster, stored);
      if (stored !== 0 || counted !== 0) highest = cluster;
      if (stored !== counted || wrongMarks !== 0) {
        reportCluster(findings, cluster * clusterSize, stored, counted, wrongMarks);
      }
    }
    cluster++;
  }
  return highest;
}

/** Entries past the end of the file whose copied bit is held against a refcount; of more only the first are. */
const OUTSIDE_MAX = 65536;

/** Entries of active tables that point past the end of the file, and whether their copied bit is set. */
export class OutsideEntries {
  readonly #entries: { readonly cluster: number; readonly copied: boolean }[] = [];

  add(cluster: number, copied: boolean): void {
    if (this.#entries.length < OUTSIDE_MAX) this.#entries.push({ cluster, copied });
  }

  /** Holds the copied bits against the refcounts that the image keeps: a file that was cut short still has them. */
  async judge(reader: RefcountReader, findings: CheckFindings): Promise<void> {
    const { clusterSize, refcountBits } = reader.header;
    this.#entries.sort((a, b) => a.cluster - b.cluster);
    let index = -1;
    let block: DataView | undefined | 'unreadable';
    for (const { cluster, copied } of this.#entries) {
      const wanted = Math.floor(cluster / reader.perBlock);
      if (wanted !== index) block = await readBlock(reader, wanted, findings, 0);
      index = wanted;
      if (block === 'unreadable') continue;
      const refcount = block === undefined ? 0 : readRefcount(block, cluster % reader.perBlock, refcountBits);
      if ((refcount === 1) !== copied) reportMark(findings, cluster * clusterSize, refcount);
    }
  }
}

/** Reads a block; when that fails, counts the clusters whose refcounts nobody can look at. */
async function readBlock(
  reader: RefcountReader,
  index: number,
  findings: CheckFindings,
  clusters: number,
): Promise<DataView | undefined | 'unreadable'> {
  try {
    return await reader.block(index);
  } catch (error) {
    if (!isVimgError(error)) throw error;
    findings.checkErrors += clusters;
    return 'unreadable';
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
  for (let i = 0; i < wrongMarks; i++) reportMark(findings, fileOffset, stored);
}

function reportMark(findings: CheckFindings, fileOffset: number, refcount: number): void {
  findings.corruption(
    'copied-bit',
    `an entry for the cluster at ${fileOffset} has a copied bit that does not fit refcount ${refcount}`,
    { fileOffset },
  );
}
