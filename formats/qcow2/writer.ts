/**
 * Writes a new qcow2 image (QEMU docs/interop/qcow2; what is written is listed in SPEC.md).
 *
 *     header | data and L2 tables, in the order they come | L1 table | refcount table | refcount blocks
 *
 * Data is appended in the order of the calls, whatever guest offsets they name, so that the host file grows front to
 * back. L2 tables stay in memory and go out at the end, or in between when there are too many. The header is written
 * last: until `finish` the file is no qcow2 image.
 *
 * Invariants: a host cluster is handed out once; an L2 entry is set in the same tick as its cluster is taken.
 */
import { invariant, VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CreateLayerOptions, ImageWriter } from '../../src/image/format-driver.ts';
import { ClusterAllocator } from './cluster-allocator.ts';
import { compressCluster } from './compressed-cluster.ts';
import { parseCreateOptions, type Qcow2CreateOptions } from './create-options.ts';
import { L1_TABLE_BYTES_MAX, l2EntriesPerTable } from './header.ts';
import { encodeFirstCluster } from './header-writer.ts';
import { compressedOffsetEnd, encodeCompressed, HIGH_COPIED, hostOffset, LOW_ZERO } from './l2-table.ts';
import { L2Writer } from './l2-writer.ts';
import { writeRefcounts } from './refcount-writer.ts';
import { WriteCombiner } from './write-combiner.ts';

const ALL_SUBCLUSTERS = 0xffff_ffff;
/** Zeroes written at a time where an image of version 2 has no other way to say "zero". */
const ZERO_RUN_BYTES: number = 1024 * 1024;

/**
 * Starts a new image in `file`, whose content is given up.
 *
 * @throws VimgError `USAGE`, `UNSUPPORTED` for options; `LIMIT` when the cluster size is too small for the disk
 */
export async function startQcow2Writer(file: BlockDevice, options: CreateLayerOptions): Promise<ImageWriter> {
  const parsed = parseCreateOptions(options.options);
  const { virtualSize, backing } = options;
  const l1Size = l1Entries(virtualSize, parsed);
  const reference = backing && { path: backing.path, format: backing.format };
  // Everything that can be wrong with the header is found now, not after an hour of copying.
  encodeFirstCluster({
    options: parsed,
    virtualSize,
    backing: reference,
    l1Size,
    l1TableOffset: 0,
    refcountTableOffset: 0,
    refcountTableClusters: 0,
  });
  // Truncated, so that what is never written in the last cluster of a write reads as zeroes.
  if (file.limits.growable && file.size > 0) await file.resize(0);
  return new Qcow2Writer(file, virtualSize, parsed, reference, l1Size);
}

/** Entries of the L1 table. @throws VimgError `LIMIT` */
function l1Entries(virtualSize: number, options: Qcow2CreateOptions): number {
  const entries = Math.ceil(virtualSize / (options.clusterSize * l2EntriesPerTable(options)));
  if (virtualSize <= LIMITS.virtualSize && entries * 8 <= L1_TABLE_BYTES_MAX) return entries;
  throw new VimgError(
    'LIMIT',
    `a disk of ${virtualSize} bytes needs larger clusters than ${options.clusterSize}`,
    {
      op: 'create',
      hint: 'use a larger cluster_size, at most 2M',
    },
  );
}

class Qcow2Writer implements ImageWriter {
  readonly unit: number;
  readonly #file: BlockDevice;
  readonly #virtualSize: number;
  readonly #options: Qcow2CreateOptions;
  readonly #backing: { readonly path: string; readonly format: string | undefined } | undefined;
  readonly #l1Size: number;
  readonly #entryBytes: number;
  /** Guest bytes that one L2 table maps. */
  readonly #tableSpan: number;
  readonly #allocator: ClusterAllocator;
  readonly #tables: L2Writer;
  readonly #output: WriteCombiner;
  /** Clusters of a fixed-size target that are being cleared because a write covers only a part of them. */
  readonly #clearing = new Map<number, Promise<void>>();
  /** Resolves when every compressed cluster asked for so far has its place: places follow the order of the calls. */
  #turn: Promise<void> = Promise.resolve();
  #finished = false;

  constructor(
    file: BlockDevice,
    virtualSize: number,
    options: Qcow2CreateOptions,
    backing: { readonly path: string; readonly format: string | undefined } | undefined,
    l1Size: number,
  ) {
    this.#file = file;
    this.#virtualSize = virtualSize;
    this.#options = options;
    this.#backing = backing;
    this.#l1Size = l1Size;
    this.unit = options.clusterSize;
    this.#entryBytes = options.extendedL2 ? 16 : 8;
    this.#tableSpan = options.clusterSize * l2EntriesPerTable(options);
    this.#allocator = new ClusterAllocator(file, options.clusterSize, options.refcountBits);
    this.#tables = new L2Writer(file, this.#allocator, options.clusterSize, l1Size);
    this.#output = new WriteCombiner(file);
  }

  /**
   * Writes guest data. What a write leaves out of a cluster reads as zeroes until another write covers it, so with a
   * backing file only whole clusters may be written (the end of the disk excepted).
   */
  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#checkRange(offset, data.length);
    for (let done = 0; done < data.length; ) {
      const at = offset + done;
      const index = Math.floor(at / this.#tableSpan);
      const length = Math.min(data.length - done, (index + 1) * this.#tableSpan - at);
      await this.#writeInTable(index, at, data.subarray(done, done + length));
      done += length;
    }
  }

  /** Writes a range that one L2 table maps, run of host clusters by run. */
  async #writeInTable(index: number, offset: number, data: Uint8Array): Promise<void> {
    for (let done = 0; done < data.length; ) {
      const at = offset + done;
      const left = data.length - done;
      const run = await this.#tables.use(index, (table) => this.#placeRange(table, index, at, left));
      const within = at % this.#options.clusterSize;
      const piece = data.subarray(done, done + run.length);
      await this.#clearEdges(run.place, within, run.length, run.fresh);
      await this.#output.write(run.place + within, piece);
      done += run.length;
    }
  }

  /** Finds or takes the host clusters of a first part of a range. `place` is that of the first cluster. */
  #placeRange(
    table: DataView,
    index: number,
    offset: number,
    length: number,
  ): { readonly place: number; readonly length: number; readonly fresh: boolean } {
    const { clusterSize } = this.#options;
    const start = offset - index * this.#tableSpan;
    const first = Math.floor(start / clusterSize);
    const last = Math.floor((start + length - 1) / clusterSize);
    const within = start % clusterSize;
    const present = this.#placeOf(table, first);
    if (present !== 0) {
      return { place: present, length: Math.min(length, clusterSize - within), fresh: false };
    }
    let count = 1;
    while (first + count <= last && this.#placeOf(table, first + count) === 0) count++;
    const place = this.#placeRun(table, first, count);
    return { place, length: Math.min(length, count * clusterSize - within), fresh: true };
  }

  /** Host offset of an entry's data cluster; 0 when it has none. */
  #placeOf(table: DataView, entry: number): number {
    const at = entry * this.#entryBytes;
    return hostOffset(table.getUint32(at), table.getUint32(at + 4));
  }

  /** Takes host clusters in a row and maps them. */
  #placeRun(table: DataView, first: number, count: number): number {
    const place = this.#allocator.allocate(count);
    for (let i = 0; i < count; i++) {
      const host = place + i * this.#options.clusterSize;
      this.#setEntry(table, first + i, (HIGH_COPIED | Math.floor(host / 0x1_0000_0000)) >>> 0, host >>> 0);
      if (this.#options.extendedL2) table.setUint32((first + i) * 16 + 12, ALL_SUBCLUSTERS);
    }
    return place;
  }

  #setEntry(table: DataView, entry: number, high: number, low: number): void {
    const at = entry * this.#entryBytes;
    table.setUint32(at, high);
    table.setUint32(at + 4, low);
  }

  /**
   * On a target that is not a fresh file the uncovered edges of new clusters hold old bytes: zero those clusters
   * first. Several writes into one cluster wait for the one clearing.
   */
  async #clearEdges(place: number, within: number, length: number, fresh: boolean): Promise<void> {
    if (this.#file.limits.growable) return;
    const { clusterSize } = this.#options;
    const edges = new Set<number>();
    if (within !== 0) edges.add(place);
    const end = within + length;
    if (end % clusterSize !== 0) edges.add(place + Math.floor(end / clusterSize) * clusterSize);
    for (const cluster of edges) {
      let clearing = this.#clearing.get(cluster);
      if (clearing === undefined && fresh) {
        clearing = (async () => this.#file.writeZeroes(cluster, clusterSize))();
        this.#clearing.set(cluster, clearing);
      }
      await clearing;
    }
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.#checkRange(offset, length);
    // Without a backing file what is not mapped reads as zeroes.
    if (this.#backing === undefined) return;
    if (this.#options.version === 2) return this.#writeZeroData(offset, length);
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / this.#tableSpan);
      const tableStart = index * this.#tableSpan;
      const runEnd = Math.min(end, tableStart + this.#tableSpan);
      await this.#tables.use(index, (table) => this.#setZero(table, at - tableStart, runEnd - tableStart));
      at = runEnd;
    }
  }

  /** Makes whole clusters read as zeroes; `start` and `end` count from the start of the table's range. */
  #setZero(table: DataView, start: number, end: number): void {
    const { clusterSize, extendedL2 } = this.#options;
    for (let entry = start / clusterSize; entry * clusterSize < end; entry++) {
      if (extendedL2) table.setUint32(entry * 16 + 8, ALL_SUBCLUSTERS);
      else this.#setEntry(table, entry, 0, LOW_ZERO);
    }
  }

  /** Version 2 cannot say "zero": the zeroes are stored. */
  async #writeZeroData(offset: number, length: number): Promise<void> {
    const zeroes = new Uint8Array(Math.min(length, ZERO_RUN_BYTES));
    for (let done = 0; done < length; done += zeroes.length) {
      await this.write(offset + done, zeroes.subarray(0, Math.min(zeroes.length, length - done)));
    }
  }

  async writeCompressed(offset: number, unit: Uint8Array): Promise<void> {
    this.#checkRange(offset, unit.length);
    const { clusterSize, compressionType } = this.#options;
    const whole = unit.length === clusterSize;
    invariant(
      offset % clusterSize === 0 && (whole || offset + unit.length === this.#virtualSize),
      'one whole unit',
    );
    const cluster = whole ? unit : new Uint8Array(clusterSize);
    if (!whole) cluster.set(unit);
    const before = this.#turn;
    const placing = Promise.all([compressCluster(compressionType, cluster), before]).then(([compressed]) =>
      this.#storeUnit(offset, unit, compressed),
    );
    this.#turn = placing;
    await placing;
  }

  async #storeUnit(offset: number, unit: Uint8Array, compressed: Uint8Array | undefined): Promise<void> {
    if (compressed === undefined) return this.write(offset, unit);
    const { clusterSize, clusterBits } = this.#options;
    const index = Math.floor(offset / this.#tableSpan);
    const entry = (offset - index * this.#tableSpan) / clusterSize;
    const place = this.#allocator.allocateBytes(compressed.length);
    if (place + compressed.length > compressedOffsetEnd(clusterBits)) {
      throw new VimgError('LIMIT', `the image is too large for compressed clusters of ${clusterSize} bytes`, {
        op: 'write',
        path: this.#file.name,
        hint: 'use a smaller cluster_size or do not compress',
      });
    }
    const { high, low } = encodeCompressed(place, compressed.length, clusterBits);
    await this.#tables.use(index, (table) => this.#setEntry(table, entry, high, low));
    await this.#output.write(place, compressed);
  }

  /** Metadata after the data, the header last. Nothing is flushed. */
  async finish(): Promise<void> {
    invariant(!this.#finished, 'an image is finished once');
    await this.#turn;
    this.#finished = true;
    const { clusterSize, refcountBits } = this.#options;
    const l1 = await this.#tables.finish(this.#output);
    let l1TableOffset = 0;
    if (l1.length > 0) {
      l1TableOffset = this.#allocator.allocate(Math.ceil(l1.length / clusterSize));
      const padded = new Uint8Array(Math.ceil(l1.length / clusterSize) * clusterSize);
      padded.set(l1);
      await this.#output.write(l1TableOffset, padded);
    }
    const refcountTable = await writeRefcounts(this.#allocator, this.#output, clusterSize, refcountBits);
    await this.#output.drain();
    await this.#file.pwrite(
      encodeFirstCluster({
        options: this.#options,
        virtualSize: this.#virtualSize,
        backing: this.#backing,
        l1Size: this.#l1Size,
        l1TableOffset,
        refcountTableOffset: refcountTable.offset,
        refcountTableClusters: refcountTable.clusters,
      }),
      0,
    );
  }

  #checkRange(offset: number, length: number): void {
    invariant(!this.#finished, 'nothing is written after finish');
    if (offset < 0 || offset + length > this.#virtualSize) {
      throw new VimgError(
        'OUT_OF_BOUNDS',
        `${length} bytes at ${offset} pass the end at ${this.#virtualSize}`,
        {
          op: 'write',
          path: this.#file.name,
        },
      );
    }
    if (this.#backing === undefined) return;
    const end = offset + length;
    invariant(
      offset % this.unit === 0 && (end % this.unit === 0 || end === this.#virtualSize),
      'with a backing file whole clusters are written',
    );
  }
}
