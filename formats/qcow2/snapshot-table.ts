/**
 * The table of internal snapshots (QEMU docs/interop/qcow2, "Snapshots").
 *
 * Entries have variable length, so the table is read piece by piece and every length is judged before it is used.
 */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { SnapshotInfo } from '../../src/image/layer.ts';
import { L1_TABLE_BYTES_MAX, type Qcow2Header } from './header.ts';
import { snapshotEntryLayout, snapshotExtraLayout } from './layout.ts';
import { decodeOffset, type MetadataRegion } from './metadata-region.ts';

/** Extra data that an entry may carry; QEMU has the same limit. */
const EXTRA_BYTES_MAX = 1024;
const NOT_COUNTED = 0xffff_ffff_ffff_ffffn;
const FIRST_READ = 16 * 1024;

/** A snapshot, and where its L1 table is. */
export interface Qcow2Snapshot {
  readonly id: string;
  readonly name: string;
  readonly l1TableOffset: number;
  readonly l1Size: number;
  /** The virtual size that the disk had; that of the image when the entry does not say. */
  readonly virtualSize: number;
  readonly dateMs: number;
  readonly dateNsec: number;
  /** Instructions executed, where they were counted. */
  readonly icount: number | undefined;
  readonly vmClockNs: number;
  readonly vmStateSize: number;
  readonly extraDataSize: number;
  /** Where the entry is, for `inspect`. */
  readonly entryOffset: number;
  readonly entryLength: number;
}

/** The snapshots of an image, and the bytes that their table takes. */
export interface SnapshotTable {
  readonly snapshots: readonly Qcow2Snapshot[];
  readonly region: MetadataRegion | undefined;
}

/**
 * Reads the whole snapshot table.
 *
 * @throws VimgError `INVALID_FORMAT` when it passes the end of the file or holds nonsense, `LIMIT`, `IO`
 */
export async function readSnapshotTable(file: BlockDevice, header: Qcow2Header): Promise<SnapshotTable> {
  if (header.snapshotCount === 0) return { snapshots: [], region: undefined };
  const window = new GrowingWindow(file, header.snapshotsOffset);
  const snapshots: Qcow2Snapshot[] = [];
  let at = 0;
  for (let index = 0; index < header.snapshotCount; index++) {
    const snapshot = await readEntry(window, at, index, header);
    snapshots.push(snapshot);
    at += snapshot.entryLength;
  }
  return { snapshots, region: { what: 'the snapshot table', offset: header.snapshotsOffset, length: at } };
}

async function readEntry(
  window: GrowingWindow,
  at: number,
  index: number,
  header: Qcow2Header,
): Promise<Qcow2Snapshot> {
  const fixed = snapshotEntryLayout.size;
  const entry = snapshotEntryLayout.decode(await window.bytes(at, fixed, index));
  if (entry.extraDataSize > EXTRA_BYTES_MAX) {
    throw invalid(
      `snapshot ${index} has ${entry.extraDataSize} bytes of extra data`,
      header.snapshotsOffset + at,
    );
  }
  const length = fixed + entry.extraDataSize + entry.idSize + entry.nameSize;
  const bytes = await window.bytes(at, length, index);
  const extra = bytes.subarray(fixed, fixed + entry.extraDataSize);
  const text = Buffer.from(
    bytes.buffer,
    bytes.byteOffset + fixed + extra.length,
    entry.idSize + entry.nameSize,
  );
  return {
    id: text.toString('utf8', 0, entry.idSize),
    name: text.toString('utf8', entry.idSize),
    l1TableOffset: decodeOffset(entry.l1TableOffset, `the L1 table of snapshot ${index}`, window.start + at),
    l1Size: entry.l1Size,
    ...readExtra(extra, entry.vmStateSize, header),
    dateMs: entry.dateSeconds * 1000 + Math.floor(entry.dateNanoseconds / 1e6),
    dateNsec: entry.dateNanoseconds,
    vmClockNs: Number(entry.vmClockNanoseconds),
    extraDataSize: entry.extraDataSize,
    entryOffset: window.start + at,
    entryLength: Math.ceil(length / 8) * 8,
  };
}

/** Fields that short extra data does not reach keep what older entries mean. */
function readExtra(
  extra: Uint8Array,
  vmStateSize32: number,
  header: Qcow2Header,
): { vmStateSize: number; virtualSize: number; icount: number | undefined } {
  const padded = new Uint8Array(snapshotExtraLayout.size);
  padded.set(extra.subarray(0, padded.length));
  const fields = snapshotExtraLayout.decode(padded);
  const virtualSize = extra.length >= 16 ? fields.virtualSize : BigInt(header.virtualSize);
  if (virtualSize > BigInt(LIMITS.virtualSize)) {
    throw new VimgError('LIMIT', `a snapshot says that its disk has ${virtualSize} bytes`, {
      op: 'read snapshots',
    });
  }
  return {
    vmStateSize: extra.length >= 8 ? Number(fields.vmStateSize) : vmStateSize32,
    virtualSize: Number(virtualSize),
    icount: extra.length >= 24 && fields.icount !== NOT_COUNTED ? Number(fields.icount) : undefined,
  };
}

/** The first bytes of a structure of unknown length: more is read when more is asked for, up to the limit. */
class GrowingWindow {
  readonly start: number;
  readonly #file: BlockDevice;
  #buffer: Uint8Array = new Uint8Array(0);

  constructor(file: BlockDevice, start: number) {
    this.#file = file;
    this.start = start;
  }

  async bytes(at: number, length: number, index: number): Promise<Uint8Array> {
    const end = at + length;
    if (this.start + end > this.#file.size) {
      throw invalid(`snapshot ${index} passes the end of the file`, this.start + at);
    }
    if (end > LIMITS.structure) {
      throw new VimgError('LIMIT', 'the snapshot table is too large', {
        op: 'read snapshots',
        offset: this.start,
      });
    }
    if (end > this.#buffer.length) {
      const wanted = Math.max(FIRST_READ, end, this.#buffer.length * 2);
      const buffer = new Uint8Array(Math.min(wanted, this.#file.size - this.start));
      await this.#file.pread(buffer, this.start);
      this.#buffer = buffer;
    }
    return this.#buffer.subarray(at, end);
  }
}

/**
 * Finds a snapshot: by ID, and if no ID matches by name, as qemu-img does.
 *
 * @throws VimgError `NOT_FOUND`
 */
export function findSnapshot(
  snapshots: readonly Qcow2Snapshot[],
  idOrName: string,
  path: string,
): Qcow2Snapshot {
  const found =
    snapshots.find((snapshot) => snapshot.id === idOrName) ??
    snapshots.find((snapshot) => snapshot.name === idOrName);
  if (found) return found;
  const names = snapshots.map((snapshot) => snapshot.name);
  throw new VimgError('NOT_FOUND', `there is no snapshot '${idOrName}'`, {
    op: 'open',
    path,
    hint: names.length === 0 ? 'the image has no snapshots' : `snapshots: ${names.slice(0, 10).join(', ')}`,
  });
}

/**
 * Judges the L1 table of a snapshot before it is read.
 *
 * @param tableSpan guest bytes that one L2 table maps
 * @throws VimgError `INVALID_FORMAT`, `LIMIT`
 */
export function checkSnapshotL1(snapshot: Qcow2Snapshot, tableSpan: number): void {
  if (snapshot.l1Size * 8 > L1_TABLE_BYTES_MAX) {
    throw new VimgError(
      'LIMIT',
      `the L1 table of snapshot '${snapshot.name}' has ${snapshot.l1Size} entries`,
      {
        op: 'open snapshot',
      },
    );
  }
  if (snapshot.l1Size < Math.ceil(snapshot.virtualSize / tableSpan)) {
    throw invalid(
      `the L1 table of snapshot '${snapshot.name}' is too small for its disk`,
      snapshot.entryOffset,
    );
  }
}

/** A snapshot as `info` shows it. */
export function snapshotInfo(snapshot: Qcow2Snapshot): SnapshotInfo {
  const { id, name, dateMs, dateNsec, vmClockNs, vmStateSize, virtualSize, icount } = snapshot;
  const counted = icount === undefined ? {} : { icount };
  return { id, name, dateMs, dateNsec, vmClockNs, vmStateSize, virtualSize, ...counted };
}

function invalid(message: string, offset: number): VimgError {
  return new VimgError('INVALID_FORMAT', message, { op: 'read snapshots', offset });
}
