/**
 * The map of a qcow2 image: where guest ranges live (QEMU docs/interop/qcow2, "Cluster mapping").
 *
 * Invariants of an answer: DATA lies inside its file and outside the metadata that the header fixes; guest data in
 * an external file lies at its guest offset; a bad entry is an error, never a guess. Runs are as long as the L2 table
 * and the question go; where nothing is mapped, as long as the L1 table goes on being empty.
 */
import { invariant, VimgError } from '../../src/base/errors.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { BEHIND, COMPRESSED, DATA, type Location, ZERO } from '../../src/image/layer.ts';
import { l2EntriesPerTable, type Qcow2Header } from './header.ts';
import { type L1Table, L2Cache } from './l2-cache.ts';
import {
  CLUSTER_BAD,
  CLUSTER_COMPRESSED,
  CLUSTER_DATA,
  CLUSTER_UNALLOCATED,
  CLUSTER_ZERO_ALLOCATED,
  type ClusterKind,
  compressedPlace,
  describeBadEntry,
  type EntryRules,
  hostOffset,
  SUBCLUSTERS,
  standardKind,
  subclusterKind,
} from './l2-table.ts';
import { type MetadataRegion, overlapping } from './metadata-region.ts';

/** What driver.ts gathered to map one state of an image. */
export interface ClusterMapParts {
  readonly file: BlockDevice;
  readonly header: Qcow2Header;
  readonly l1: L1Table;
  /** Of the content shown: the image's, or that of the snapshot opened. */
  readonly virtualSize: number;
  /** Metadata that no guest data may overlap. */
  readonly regions: readonly MetadataRegion[];
  /** The open external data file; absent when the image has none, or was opened for `info` only. */
  readonly dataFile: BlockDevice | undefined;
}

export class ClusterMap {
  readonly #file: BlockDevice;
  readonly #virtualSize: number;
  readonly #rules: EntryRules;
  readonly #l1: L1Table;
  readonly #tables: L2Cache;
  readonly #regions: readonly MetadataRegion[];
  readonly #dataFile: BlockDevice | undefined;
  readonly #entriesPerTable: number;
  /** Guest bytes that one L2 table maps. */
  readonly #tableSpan: number;

  constructor(parts: ClusterMapParts) {
    const { file, header, l1 } = parts;
    this.#file = file;
    this.#virtualSize = parts.virtualSize;
    this.#rules = {
      version: header.version,
      clusterBits: header.clusterBits,
      clusterSize: header.clusterSize,
      extendedL2: header.extendedL2,
      externalData: header.dataFile !== undefined,
    };
    this.#l1 = l1;
    this.#tables = new L2Cache(file, l1, header.clusterSize);
    this.#regions = parts.regions;
    this.#dataFile = parts.dataFile;
    this.#entriesPerTable = l2EntriesPerTable(header);
    this.#tableSpan = header.clusterSize * this.#entriesPerTable;
  }

  /** As `Layer.locate`. @throws VimgError `OUT_OF_BOUNDS`, `CORRUPT`, `IO` */
  locate(offset: number, length: number, into: Location): MaybePromise<void> {
    if (!(offset >= 0 && length > 0 && offset + length <= this.#virtualSize)) {
      throw new VimgError(
        'OUT_OF_BOUNDS',
        `${length} bytes at ${offset} pass the end at ${this.#virtualSize}`,
        {
          op: 'locate',
          path: this.#file.name,
        },
      );
    }
    const index = Math.floor(offset / this.#tableSpan);
    const table = this.#tables.get(index);
    if (isPromise(table)) return table.then((loaded) => this.#answer(loaded, index, offset, length, into));
    this.#answer(table, index, offset, length, into);
  }

  #answer(table: DataView | undefined, index: number, offset: number, length: number, into: Location): void {
    into.reserved = false;
    into.verify = false;
    into.device = undefined;
    if (table === undefined) {
      into.kind = BEHIND;
      into.length = this.#behindRun(index + 1, offset, length);
    } else if (this.#rules.extendedL2) {
      this.#answerExtended(table, index, offset, length, into);
    } else {
      this.#answerStandard(table, index, offset, length, into);
    }
  }

  /** How long nothing is here, when that holds up to where the table `index` starts: L1 entries without a table follow. */
  #behindRun(index: number, offset: number, length: number): number {
    const end = offset + length;
    while (index * this.#tableSpan < end && this.#l1.isAbsent(index)) index++;
    return Math.min(end, index * this.#tableSpan) - offset;
  }

  #answerStandard(table: DataView, index: number, offset: number, length: number, into: Location): void {
    const { clusterSize } = this.#rules;
    const rest = offset - index * this.#tableSpan;
    let entry = Math.floor(rest / clusterSize);
    const within = rest - entry * clusterSize;
    const high = table.getUint32(entry * 8);
    const low = table.getUint32(entry * 8 + 4);
    const kind = standardKind(high, low, this.#rules);
    if (kind === CLUSTER_BAD) throw this.#badEntry(high, low, 0, 0, offset - within);
    if (kind === CLUSTER_COMPRESSED) {
      this.#answerCompressed(high, low, offset, within, length, into);
      return;
    }
    const start = hostOffset(high, low);
    const placed = kind === CLUSTER_DATA || kind === CLUSTER_ZERO_ALLOCATED;
    let run = clusterSize - within;
    let next = start + clusterSize;
    while (run < length && ++entry < this.#entriesPerTable) {
      const nextHigh = table.getUint32(entry * 8);
      const nextLow = table.getUint32(entry * 8 + 4);
      if (standardKind(nextHigh, nextLow, this.#rules) !== kind) break;
      if (placed && hostOffset(nextHigh, nextLow) !== next) break;
      run += clusterSize;
      next += clusterSize;
    }
    if (kind === CLUSTER_UNALLOCATED && entry === this.#entriesPerTable && run < length) {
      run = this.#behindRun(index + 1, offset, length);
    }
    this.#fill(kind, start + within, offset, Math.min(run, length), clusterSize - within, into);
  }

  #answerExtended(table: DataView, index: number, offset: number, length: number, into: Location): void {
    const { clusterSize } = this.#rules;
    const subclusterSize = clusterSize / SUBCLUSTERS;
    const rest = offset - index * this.#tableSpan;
    let entry = Math.floor(rest / clusterSize);
    const within = rest - entry * clusterSize;
    let subcluster = Math.floor(within / subclusterSize);
    const high = table.getUint32(entry * 16);
    const low = table.getUint32(entry * 16 + 4);
    const kind = this.#subclusterKind(table, entry, subcluster);
    if (kind === CLUSTER_BAD) {
      const zeroBits = table.getUint32(entry * 16 + 8);
      throw this.#badEntry(high, low, zeroBits, table.getUint32(entry * 16 + 12), offset - within);
    }
    if (kind === CLUSTER_COMPRESSED) {
      this.#answerCompressed(high, low, offset, within, length, into);
      return;
    }
    const start = hostOffset(high, low);
    const placed = kind === CLUSTER_DATA || kind === CLUSTER_ZERO_ALLOCATED;
    let run = subclusterSize - (within - subcluster * subclusterSize);
    let next = start + clusterSize;
    while (run < length) {
      if (++subcluster === SUBCLUSTERS) {
        subcluster = 0;
        if (++entry === this.#entriesPerTable) break;
        if (placed) {
          if (hostOffset(table.getUint32(entry * 16), table.getUint32(entry * 16 + 4)) !== next) break;
          next += clusterSize;
        }
      }
      if (this.#subclusterKind(table, entry, subcluster) !== kind) break;
      run += subclusterSize;
    }
    if (kind === CLUSTER_UNALLOCATED && entry === this.#entriesPerTable && run < length) {
      run = this.#behindRun(index + 1, offset, length);
    }
    this.#fill(kind, start + within, offset, Math.min(run, length), clusterSize - within, into);
  }

  #subclusterKind(table: DataView, entry: number, subcluster: number): ClusterKind {
    const at = entry * 16;
    return subclusterKind(
      table.getUint32(at),
      table.getUint32(at + 4),
      table.getUint32(at + 8),
      table.getUint32(at + 12),
      subcluster,
      this.#rules,
    );
  }

  /**
   * Fills the answer for a run of standard clusters.
   *
   * @param place where the run starts in its file, for data
   * @param firstCluster bytes of the run that its first cluster has at most
   */
  #fill(
    kind: ClusterKind,
    place: number,
    offset: number,
    length: number,
    firstCluster: number,
    into: Location,
  ): void {
    into.length = length;
    if (kind === CLUSTER_UNALLOCATED) {
      into.kind = BEHIND;
    } else if (kind === CLUSTER_DATA) {
      this.#fillData(place, offset, length, firstCluster, into);
    } else {
      into.kind = ZERO;
      if (kind !== CLUSTER_ZERO_ALLOCATED) return;
      into.reserved = true;
      into.device = this.#dataDevice();
      into.deviceOffset = place;
    }
  }

  #fillData(place: number, offset: number, length: number, firstCluster: number, into: Location): void {
    const device = this.#dataDevice();
    if (this.#rules.externalData && place !== offset) {
      throw this.#corrupt(
        `guest offset ${offset} is at ${place} of the data file, not at its own offset`,
        offset,
      );
    }
    // The last cluster of a file may be cut short; what is missing reads as zeroes. A cluster that starts past the
    // end is damage.
    const clusterStart = place + firstCluster - this.#rules.clusterSize;
    if (clusterStart >= device.size) {
      throw this.#corrupt(`guest offset ${offset} is at ${place}, past the end of ${device.name}`, offset);
    }
    if (place >= device.size) {
      into.kind = ZERO;
      into.length = Math.min(length, firstCluster);
      return;
    }
    const fitting = Math.min(length, device.size - place);
    if (!this.#rules.externalData) {
      const region = overlapping(this.#regions, place, fitting);
      if (region) throw this.#corrupt(`guest offset ${offset} is mapped into ${region.what}`, offset);
    }
    into.kind = DATA;
    into.length = fitting;
    into.device = device;
    into.deviceOffset = place;
  }

  #answerCompressed(
    high: number,
    low: number,
    offset: number,
    within: number,
    length: number,
    into: Location,
  ): void {
    const { clusterBits, clusterSize } = this.#rules;
    const place = compressedPlace(high, low, clusterBits);
    if (place.offset >= this.#file.size) {
      throw this.#corrupt(
        `the compressed cluster of guest offset ${offset} is at ${place.offset}, past the end`,
        offset,
      );
    }
    const storedLength = Math.min(place.length, this.#file.size - place.offset);
    const region = overlapping(this.#regions, place.offset, storedLength);
    if (region)
      throw this.#corrupt(`the compressed cluster of guest offset ${offset} is in ${region.what}`, offset);
    into.kind = COMPRESSED;
    into.device = this.#file;
    into.deviceOffset = place.offset;
    into.storedLength = storedLength;
    into.unitOffset = offset - within;
    into.unitLength = Math.min(clusterSize, this.#virtualSize - into.unitOffset);
    into.length = Math.min(length, clusterSize - within);
  }

  #dataDevice(): BlockDevice {
    if (!this.#rules.externalData) return this.#file;
    invariant(this.#dataFile !== undefined, 'a layer opened for info only was asked for data');
    return this.#dataFile;
  }

  #badEntry(
    high: number,
    low: number,
    zeroBits: number,
    allocatedBits: number,
    guestOffset: number,
  ): VimgError {
    const what = describeBadEntry(high, low, zeroBits, allocatedBits, this.#rules);
    return this.#corrupt(`the L2 entry of guest offset ${guestOffset} is damaged: ${what}`, guestOffset);
  }

  #corrupt(message: string, guestOffset: number): VimgError {
    return new VimgError('CORRUPT', message, { op: 'locate', path: this.#file.name, offset: guestOffset });
  }
}
