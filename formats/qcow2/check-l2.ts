/**
 * The walk over L2 tables in a check: counts the clusters that entries point to, and finds entries that break the
 * specification (QEMU docs/interop/qcow2, "Cluster mapping").
 */
import { isVimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckFindings } from './check-findings.ts';
import type { Qcow2Header } from './header.ts';
import type { L2Inventory } from './l2-inventory.ts';
import {
  compressedPlace,
  describeBadEntry,
  type EntryRules,
  HIGH_COMPRESSED,
  HIGH_COPIED,
  HIGH_RESERVED,
  hostOffset,
  isMisaligned,
  LOW_RESERVED,
  LOW_ZERO,
} from './l2-table.ts';
import { MARK_COPIED, MARK_NONE, MARK_NOT_COPIED, type ReferenceCounts } from './reference-counts.ts';

/** Bytes of neighbouring L2 tables read in one go. */
const BATCH_BYTES: number = 1024 * 1024;

/** Clusters in use by the active image. */
export interface ClusterStatistics {
  allocated: number;
  fragmented: number;
  compressed: number;
}

/** What a walk needs; `first` says that this is the first window, in which findings and statistics are taken. */
export interface L2Walk {
  readonly file: BlockDevice;
  readonly header: Qcow2Header;
  readonly inventory: L2Inventory;
  readonly counts: ReferenceCounts;
  readonly findings: CheckFindings;
  readonly statistics: ClusterStatistics;
  readonly first: boolean;
  /** Counts a region of the file; reports one that passes the end of the file. */
  readonly countRegion: (offset: number, length: number, weight: number, what: string) => void;
  /** Notes an entry of an active table that points past the end of the file, whose copied bit is judged later. */
  readonly outside: (cluster: number, copied: boolean) => void;
  /** Called between reads. @throws VimgError `CANCELLED` */
  readonly step: (fraction: number) => void;
}

/** Reads every L2 table once, in the order of the file. */
export async function walkL2Tables(walk: L2Walk): Promise<void> {
  const { file, header, inventory } = walk;
  const { offsets } = inventory;
  const { clusterSize } = header;
  const batchMax = Math.max(1, Math.floor(BATCH_BYTES / clusterSize));
  const buffer = new Uint8Array(batchMax * clusterSize);
  for (let at = 0; at < offsets.length; ) {
    walk.step(at / offsets.length);
    const start = offsets[at] as number;
    let count = 1;
    while (count < batchMax && offsets[at + count] === start + count * clusterSize) count++;
    const bytes = buffer.subarray(0, count * clusterSize);
    if (!(await readTables(walk, bytes, start, count))) {
      at += count;
      continue;
    }
    const zero = bytes.every((byte) => byte === 0);
    for (let i = 0; !zero && i < count; i++) {
      const table = new DataView(bytes.buffer, bytes.byteOffset + i * clusterSize, clusterSize);
      walkTable(walk, table, at + i);
    }
    at += count;
    // A table of zeroes is odd: a hostile image may have millions of them in a hole. Pass the hole at once.
    if (zero && at < offsets.length) at = await passHole(file, offsets, at);
  }
}

async function readTables(walk: L2Walk, bytes: Uint8Array, start: number, count: number): Promise<boolean> {
  try {
    const inside = Math.min(bytes.length, walk.file.size - start);
    bytes.fill(0, inside);
    await walk.file.pread(bytes.subarray(0, inside), start);
    return true;
  } catch (error) {
    if (!isVimgError(error)) throw error;
    // Counted, as every part of the image that the check could not look at; the check goes on with the rest.
    if (walk.first) walk.findings.checkErrors += count;
    return false;
  }
}

async function passHole(file: BlockDevice, offsets: Float64Array, at: number): Promise<number> {
  const start = offsets[at] as number;
  const extent = await file.status(start, file.size - start);
  if (!extent.zero) return at;
  const end = extent.offset + extent.length;
  const clusterSize = start - (offsets[at - 1] as number);
  while (at < offsets.length && (offsets[at] as number) + Math.max(clusterSize, 0) <= end) at++;
  return at;
}

function rulesOf(header: Qcow2Header): EntryRules {
  return {
    version: header.version,
    clusterBits: header.clusterBits,
    clusterSize: header.clusterSize,
    extendedL2: header.extendedL2,
    externalData: header.dataFile !== undefined,
  };
}

function walkTable(walk: L2Walk, table: DataView, index: number): void {
  const { header } = walk;
  const weight = walk.inventory.weights[index] as number;
  const activeWeight = walk.inventory.activeWeights[index] as number;
  const stride = header.extendedL2 ? 16 : 8;
  let contiguous = 0;
  for (let at = 0; at < header.clusterSize; at += stride) {
    const high = table.getUint32(at);
    const low = table.getUint32(at + 4);
    const zeroBits = stride === 16 ? table.getUint32(at + 8) : 0;
    const allocatedBits = stride === 16 ? table.getUint32(at + 12) : 0;
    if ((high | low | zeroBits | allocatedBits) === 0) continue;
    if ((high & HIGH_COMPRESSED) !== 0) {
      walkCompressed(walk, high, low, zeroBits | allocatedBits, weight, activeWeight);
      continue;
    }
    if (walk.first) judgeStandard(walk, high, low, zeroBits, allocatedBits, weight);
    const offset = hostOffset(high, low);
    const external = header.dataFile !== undefined;
    if (offset === 0 && !(external && (high & HIGH_COPIED) !== 0)) continue;
    if (walk.first && activeWeight > 0) {
      walk.statistics.allocated += activeWeight;
      if (contiguous !== 0 && offset !== contiguous) walk.statistics.fragmented += activeWeight;
      contiguous = offset + header.clusterSize;
    }
    if (external) {
      if (walk.first && (high & HIGH_COPIED) === 0 && activeWeight > 0) {
        walk.findings.corruption(
          'copied-bit',
          `the entry of data file offset ${offset} lacks its copied bit`,
        );
      }
    } else {
      countData(walk, high, low, weight, activeWeight > 0);
    }
  }
}

/** Counts the host cluster of a data entry, and notes how the entry's copied bit says that it is shared. */
function countData(walk: L2Walk, high: number, low: number, weight: number, active: boolean): void {
  const { clusterSize } = walk.header;
  const offset = hostOffset(high, low);
  const copied = (high & HIGH_COPIED) !== 0;
  const cluster = Math.floor(offset / clusterSize);
  const mark = !active ? MARK_NONE : copied ? MARK_COPIED : MARK_NOT_COPIED;
  if (offset < walk.file.size && !isMisaligned(low, clusterSize)) {
    walk.counts.add(cluster, weight, mark);
    return;
  }
  walk.countRegion(offset, clusterSize, weight, 'a data cluster');
  if (offset < walk.file.size) walk.counts.add(cluster, 0, mark);
  else if (walk.first && active) walk.outside(cluster, copied);
}

function walkCompressed(
  walk: L2Walk,
  high: number,
  low: number,
  bitmap: number,
  weight: number,
  activeWeight: number,
): void {
  const { header, findings, first } = walk;
  const place = compressedPlace(high, low, header.clusterBits);
  const bad = (what: string): void => {
    if (!first) return;
    for (let i = 0; i < weight; i++) {
      findings.corruption('l2-entry', `the compressed cluster at ${place.offset} ${what}`, {
        fileOffset: place.offset,
      });
    }
  };
  if ((high & HIGH_COPIED) !== 0) bad('has the copied bit set');
  if (header.dataFile !== undefined || bitmap !== 0) {
    bad(bitmap !== 0 ? 'has a subcluster bitmap' : 'belongs to an image with an external data file');
    return;
  }
  walk.countRegion(place.offset, place.length, weight, 'a compressed cluster');
  if (!first) return;
  // Compressed clusters share sectors, so each counts as a fragment of its own, as qemu-img counts them.
  walk.statistics.allocated += activeWeight;
  walk.statistics.compressed += activeWeight;
  walk.statistics.fragmented += activeWeight;
}

/** Reports a standard entry that breaks the specification: once for each reason, and each L1 entry that leads here. */
function judgeStandard(
  walk: L2Walk,
  high: number,
  low: number,
  zeroBits: number,
  allocatedBits: number,
  weight: number,
): void {
  const { header, findings } = walk;
  const offset = hostOffset(high, low);
  const reserved = (high & HIGH_RESERVED) !== 0 || (low & LOW_RESERVED) !== 0;
  const badZero = (low & LOW_ZERO) !== 0 && (header.version < 3 || header.extendedL2);
  const misaligned = isMisaligned(low, header.clusterSize);
  const badBitmap = offset !== 0 && (zeroBits & allocatedBits) !== 0;
  const external = header.dataFile !== undefined;
  const noPlace =
    offset === 0 &&
    !external &&
    (allocatedBits !== 0 || ((high & HIGH_COPIED) !== 0 && (low & LOW_ZERO) === 0));
  if (!(reserved || badZero || misaligned || badBitmap || noPlace)) return;
  const rules = rulesOf(header);
  const reasons =
    Number(reserved) + Number(badZero) + Number(misaligned) + Number(badBitmap) + Number(noPlace);
  for (let i = 0; i < reasons * weight; i++) {
    findings.corruption(
      'l2-entry',
      `an L2 entry is damaged: ${describeBadEntry(high, low, zeroBits, allocatedBits, rules)}`,
      {
        fileOffset: offset,
      },
    );
  }
}
