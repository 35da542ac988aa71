/**
 * Checks a qcow2 image: counts every reference to every host cluster and holds the result against the refcounts that
 * the image keeps. Read-only. Counts equal those of `qemu-img check`.
 *
 * The file is looked at in windows of {@link WINDOW_CLUSTERS} clusters; each window reads the metadata once. Images
 * of up to 4 TiB (with clusters of 64 KiB) take one.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckReport } from '../../src/image/check-report.ts';
import type { CheckOptions } from '../../src/image/format-driver.ts';
import { type BitmapDirectory, readBitmapDirectory } from './bitmap-directory.ts';
import { CheckFindings } from './check-findings.ts';
import { type ClusterStatistics, walkL2Tables } from './check-l2.ts';
import { compareRefcounts, countRefcountBlocks, OutsideEntries, RefcountReader } from './check-refcounts.ts';
import { type Qcow2Header, readHeader } from './header.ts';
import { L2Inventory } from './l2-inventory.ts';
import { hostOffset } from './l2-table.ts';
import {
  MARK_COPIED,
  MARK_NONE,
  MARK_NOT_COPIED,
  ReferenceCounts,
  WINDOW_CLUSTERS,
} from './reference-counts.ts';
import { readSnapshotTable, type SnapshotTable } from './snapshot-table.ts';

/** Windows that one check goes through: 256 TiB with clusters of 64 KiB. */
const WINDOWS_MAX = 64;
/** Bytes of extra data that entries of the snapshot table have since version 3. */
const SNAPSHOT_EXTRA_V3 = 16;

/** All that is read before references are counted. */
interface Checked {
  readonly file: BlockDevice;
  readonly header: Qcow2Header;
  readonly snapshots: SnapshotTable;
  readonly bitmaps: BitmapDirectory | undefined;
  readonly inventory: L2Inventory;
  readonly findings: CheckFindings;
  readonly outside: OutsideEntries;
  readonly options: CheckOptions;
}

/**
 * Checks an image.
 *
 * @throws VimgError `UNSUPPORTED` for a repair; `INVALID_FORMAT`, `LIMIT` when the header already says that nothing
 *   can be checked; `CANCELLED`, `IO`
 */
export async function checkQcow2(file: BlockDevice, options: CheckOptions): Promise<CheckReport> {
  if (options.repair !== undefined) {
    throw new VimgError('UNSUPPORTED', 'qcow2 images are checked, not repaired, in this release', {
      op: 'check',
      path: file.name,
      hint: 'repair it with `qemu-img check -r`, or convert what can be read',
    });
  }
  const header = await readHeader(file, { allowEncrypted: true });
  const findings = new CheckFindings();
  const snapshots = await readSnapshotTable(file, header);
  const bitmaps = await readBitmapDirectory(file, header);
  const inventory = new L2Inventory();
  const outside = new OutsideEntries();
  const checked: Checked = { file, header, snapshots, bitmaps, inventory, findings, outside, options };
  await takeInventory(checked);
  const clusters = Math.ceil(file.size / header.clusterSize);
  const windows = Math.ceil(clusters / WINDOW_CLUSTERS);
  if (windows > WINDOWS_MAX) {
    throw new VimgError('LIMIT', `the file has ${clusters} clusters, more than a check goes through`, {
      op: 'check',
      path: file.name,
    });
  }
  const statistics: ClusterStatistics = { allocated: 0, fragmented: 0, compressed: 0 };
  const reader = new RefcountReader(file, header);
  await reader.open();
  let highest = 0; // the header's cluster is always in use
  for (let window = 0; window < windows; window++) {
    const start = window * WINDOW_CLUSTERS;
    // A region may pass the end of the file by less than a cluster, so one cluster more is counted.
    const counts = new ReferenceCounts(start, Math.min(start + WINDOW_CLUSTERS, clusters + 1));
    const step = stepper(options, window, windows);
    await countReferences(checked, counts, statistics, window === 0, step);
    await countRefcountBlocks(reader, counts, findings, window === 0);
    highest = Math.max(highest, await compareRefcounts(reader, counts, findings, clusters));
  }
  for (const { cluster, copied } of inventory.outside) outside.add(cluster, copied);
  await outside.judge(reader, findings);
  options.onProgress?.(1);
  return {
    format: 'qcow2',
    findings: findings.all(),
    corruptions: findings.corruptions,
    leaks: findings.leaks,
    corruptionsFixed: 0,
    leaksFixed: 0,
    checkErrors: findings.checkErrors,
    imageEndOffset: (highest + 1) * header.clusterSize,
    totalClusters: Math.ceil(header.virtualSize / header.clusterSize),
    allocatedClusters: statistics.allocated,
    fragmentedClusters: statistics.fragmented,
    compressedClusters: statistics.compressed,
  };
}

/** Reports progress and cancels; called between reads. */
function stepper(options: CheckOptions, window: number, windows: number): (fraction: number) => void {
  return (fraction) => {
    if (options.signal?.aborted) throw new VimgError('CANCELLED', 'the check was cancelled', { op: 'check' });
    options.onProgress?.((window + fraction) / windows);
  };
}

async function takeInventory(checked: Checked): Promise<void> {
  const { file, header, snapshots, findings, inventory } = checked;
  const { clusterSize } = header;
  const active = {
    what: 'the active table',
    offset: header.l1TableOffset,
    entries: header.l1Size,
    active: true,
  };
  await inventory.add(file, active, clusterSize, findings);
  for (const snapshot of snapshots.snapshots) {
    const what = `snapshot '${snapshot.name}'`;
    if (header.version >= 3 && snapshot.extraDataSize < SNAPSHOT_EXTRA_V3) {
      findings.corruption('snapshot-entry', `the entry of ${what} is incomplete`, {
        fileOffset: snapshot.entryOffset,
      });
    }
    if (!snapshotTableReadable(checked, snapshot)) {
      findings.corruption('snapshot-l1', `the L1 table of ${what} cannot be where its entry says`, {
        fileOffset: snapshot.entryOffset,
      });
      continue;
    }
    const root = { what, offset: snapshot.l1TableOffset, entries: snapshot.l1Size, active: false };
    await inventory.add(file, root, clusterSize, findings);
  }
}

function snapshotTableReadable(
  { file, header }: Checked,
  snapshot: { readonly l1TableOffset: number; readonly l1Size: number },
): boolean {
  const { l1TableOffset, l1Size } = snapshot;
  return l1TableOffset % header.clusterSize === 0 && l1TableOffset + l1Size * 8 <= file.size;
}

/** Counts the references that fall into one window. */
async function countReferences(
  checked: Checked,
  counts: ReferenceCounts,
  statistics: ClusterStatistics,
  first: boolean,
  step: (fraction: number) => void,
): Promise<void> {
  const { file, header, snapshots, bitmaps, inventory, findings } = checked;
  const { clusterSize } = header;
  const countRegion = regionCounter(file, clusterSize, counts, findings, first);
  countRegion(0, clusterSize, 1, 'the header');
  countRegion(header.l1TableOffset, header.l1Size * 8, 1, 'the L1 table');
  for (const snapshot of snapshots.snapshots) {
    if (!snapshotTableReadable(checked, snapshot)) continue;
    countRegion(
      snapshot.l1TableOffset,
      snapshot.l1Size * 8,
      1,
      `the L1 table of snapshot '${snapshot.name}'`,
    );
  }
  const { region } = snapshots;
  if (region) countRegion(region.offset, region.length, 1, region.what);
  countRegion(
    header.refcountTableOffset,
    header.refcountTableClusters * clusterSize,
    1,
    'the refcount table',
  );
  const { encryption } = header.extensions;
  if (encryption && header.encryption === 'luks') {
    countRegion(Number(encryption.offset), Number(encryption.length), 1, 'the encryption header');
  }
  if (bitmaps) await countBitmaps(checked, bitmaps, countRegion, first);
  for (let i = 0; i < inventory.offsets.length; i++) {
    const cluster = (inventory.offsets[i] as number) / clusterSize;
    counts.add(cluster, inventory.weights[i] as number, MARK_NONE);
  }
  for (const cluster of inventory.copied) counts.add(cluster, 0, MARK_COPIED);
  for (const cluster of inventory.notCopied) counts.add(cluster, 0, MARK_NOT_COPIED);
  const outside = (cluster: number, copied: boolean): void => checked.outside.add(cluster, copied);
  await walkL2Tables({
    file,
    header,
    inventory,
    counts,
    findings,
    statistics,
    first,
    countRegion,
    outside,
    step,
  });
}

/** Counts every cluster that a region touches; one that passes the end of the file by a cluster counts nowhere. */
function regionCounter(
  file: BlockDevice,
  clusterSize: number,
  counts: ReferenceCounts,
  findings: CheckFindings,
  first: boolean,
): (offset: number, length: number, weight: number, what: string) => void {
  return (offset, length, weight, what) => {
    if (length <= 0) return;
    if (offset + length - file.size >= clusterSize) {
      if (!first) return;
      for (let i = 0; i < weight; i++) {
        findings.corruption(
          'region-outside',
          `${what}, ${length} bytes at ${offset}, passes the end of the file`,
          {
            fileOffset: offset,
          },
        );
      }
      return;
    }
    const last = Math.floor((offset + length - 1) / clusterSize);
    const from = Math.max(Math.floor(offset / clusterSize), counts.start);
    for (let cluster = from; cluster <= Math.min(last, counts.end - 1); cluster++)
      counts.add(cluster, weight, MARK_NONE);
  };
}

async function countBitmaps(
  { file, header, findings }: Checked,
  directory: BitmapDirectory,
  countRegion: (offset: number, length: number, weight: number, what: string) => void,
  first: boolean,
): Promise<void> {
  countRegion(directory.offset, directory.length, 1, 'the bitmap directory');
  for (const bitmap of directory.bitmaps) {
    const what = `bitmap '${bitmap.name}'`;
    const length = bitmap.tableSize * 8;
    countRegion(bitmap.tableOffset, length, 1, `the table of ${what}`);
    // No bitmap needs more entries than one bit for each 512 guest bytes takes.
    const entriesMax = Math.ceil(header.virtualSize / bitmap.granularity / 8 / header.clusterSize) + 1;
    if (bitmap.tableOffset + length > file.size || bitmap.tableSize > entriesMax) {
      if (first) findings.corruption('bitmap-table', `the table of ${what} is larger than the disk needs`);
      continue;
    }
    const table = new DataView(new ArrayBuffer(length));
    await file.pread(new Uint8Array(table.buffer), bitmap.tableOffset);
    for (let at = 0; at < length; at += 8) {
      const offset = hostOffset(table.getUint32(at), table.getUint32(at + 4));
      if (offset !== 0) countRegion(offset, header.clusterSize, 1, `data of ${what}`);
    }
  }
}
