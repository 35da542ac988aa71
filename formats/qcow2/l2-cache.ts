/**
 * The L1 table, and the L2 tables it points to, cached.
 *
 * Invariants: an L1 entry is judged before its table is read; a table is read once, however many ask for it at the
 * same time; cached tables take at most `LIMITS.metadataCache` bytes, the least recently used go first. A table
 * that is cached is given in the same tick.
 */
import { invariant, VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { L1_TABLE_BYTES_MAX } from './header.ts';
import { hostOffset, L1_HIGH_RESERVED, L1_LOW_RESERVED } from './l2-table.ts';
import { type MetadataRegion, overlapping } from './metadata-region.ts';

/** An L1 table in memory. */
export class L1Table {
  readonly entries: number;
  readonly #file: BlockDevice;
  readonly #view: DataView;
  readonly #clusterSize: number;
  readonly #regions: readonly MetadataRegion[];

  private constructor(
    file: BlockDevice,
    bytes: Uint8Array,
    clusterSize: number,
    regions: readonly MetadataRegion[],
  ) {
    this.#file = file;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.entries = bytes.length / 8;
    this.#clusterSize = clusterSize;
    this.#regions = regions;
  }

  /**
   * Reads a table whose place was judged already.
   *
   * @param regions metadata that no L2 table may overlap
   * @throws VimgError `IO`, `CORRUPT` when the file ends inside it
   */
  static async read(
    file: BlockDevice,
    offset: number,
    entries: number,
    clusterSize: number,
    regions: readonly MetadataRegion[],
  ): Promise<L1Table> {
    const length = entries * 8;
    if (length > L1_TABLE_BYTES_MAX) {
      throw new VimgError('LIMIT', `the L1 table has ${entries} entries`, { op: 'read L1 table', offset });
    }
    if (offset + length > file.size) {
      throw new VimgError('CORRUPT', 'the file ends inside the L1 table', {
        op: 'read L1 table',
        path: file.name,
        offset,
      });
    }
    const bytes = new Uint8Array(length);
    if (length > 0) await file.pread(bytes, offset);
    return new L1Table(file, bytes, clusterSize, regions);
  }

  /** Whether the entry says that there is no L2 table. */
  isAbsent(index: number): boolean {
    const high = this.#view.getUint32(index * 8);
    const low = this.#view.getUint32(index * 8 + 4);
    return hostOffset(high, low) === 0 && (high & L1_HIGH_RESERVED) === 0 && (low & L1_LOW_RESERVED) === 0;
  }

  /** Where the L2 table is; 0 when there is none. @throws VimgError `CORRUPT` for an entry that cannot be right */
  l2Offset(index: number): number {
    invariant(index < this.entries, 'the L1 table covers the question; one opened for info only covers none');
    const high = this.#view.getUint32(index * 8);
    const low = this.#view.getUint32(index * 8 + 4);
    const offset = hostOffset(high, low);
    if ((high & L1_HIGH_RESERVED) !== 0 || (low & L1_LOW_RESERVED) !== 0) {
      throw this.#corrupt(index, 'has reserved bits set');
    }
    if (offset === 0) return 0;
    if (offset % this.#clusterSize !== 0)
      throw this.#corrupt(index, `points to ${offset}, which is not aligned`);
    if (offset + this.#clusterSize > this.#file.size) {
      throw this.#corrupt(index, `points to ${offset}, past the end of the file`);
    }
    const region = overlapping(this.#regions, offset, this.#clusterSize);
    if (region) throw this.#corrupt(index, `points to ${offset}, into ${region.what}`);
    return offset;
  }

  #corrupt(index: number, what: string): VimgError {
    return new VimgError('CORRUPT', `L1 entry ${index} ${what}`, {
      op: 'read L1 table',
      path: this.#file.name,
    });
  }
}

/** The L2 tables of one L1 table. */
export class L2Cache {
  readonly #file: BlockDevice;
  readonly #l1: L1Table;
  readonly #clusterSize: number;
  readonly #tablesMax: number;
  /** In order of use, the oldest first. */
  readonly #tables = new Map<number, DataView>();
  readonly #loading = new Map<number, Promise<DataView>>();
  /** The table used last, beside the map: runs of requests stay in one table. */
  #lastIndex = -1;
  #lastTable: DataView | undefined = undefined;

  constructor(file: BlockDevice, l1: L1Table, clusterSize: number) {
    this.#file = file;
    this.#l1 = l1;
    this.#clusterSize = clusterSize;
    this.#tablesMax = Math.max(2, Math.floor(LIMITS.metadataCache / clusterSize));
  }

  /** The L2 table of an L1 entry; nothing when there is none. @throws VimgError `CORRUPT`, `IO` */
  get(index: number): MaybePromise<DataView | undefined> {
    if (index === this.#lastIndex) return this.#lastTable;
    const cached = this.#tables.get(index);
    if (cached !== undefined) {
      this.#tables.delete(index);
      return this.#remember(index, cached);
    }
    return this.#loading.get(index) ?? this.#load(index);
  }

  #load(index: number): MaybePromise<DataView | undefined> {
    const offset = this.#l1.l2Offset(index);
    if (offset === 0) return undefined;
    const bytes = new Uint8Array(this.#clusterSize);
    const table = new DataView(bytes.buffer);
    const reading = this.#file.pread(bytes, offset);
    if (!isPromise(reading)) return this.#remember(index, table);
    const loading = reading
      .then(() => this.#remember(index, table))
      .finally(() => this.#loading.delete(index));
    this.#loading.set(index, loading);
    return loading;
  }

  #remember(index: number, table: DataView): DataView {
    this.#tables.set(index, table);
    this.#lastIndex = index;
    this.#lastTable = table;
    if (this.#tables.size > this.#tablesMax) {
      for (const oldest of this.#tables.keys()) {
        this.#tables.delete(oldest);
        break;
      }
    }
    return table;
  }
}
