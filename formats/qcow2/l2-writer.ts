/**
 * The L1 and L2 tables of an image that is being written.
 *
 * Invariant: tables in memory take at most `LIMITS.metadataCache` bytes. When there are more, the one that was used
 * least recently is written to a cluster of its own, and read again if it is needed once more; an image written from
 * front to back never reads one.
 */
import { LIMITS } from '../../src/base/limits.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { ClusterAllocator } from './cluster-allocator.ts';
import { HIGH_COPIED } from './l2-table.ts';
import type { WriteCombiner } from './write-combiner.ts';

export class L2Writer {
  readonly #file: BlockDevice;
  readonly #allocator: ClusterAllocator;
  readonly #clusterSize: number;
  readonly #tablesMax: number;
  /** Offset of each L2 table on disk; 0 while it has no place. */
  readonly #places: Float64Array;
  /** In order of use, the oldest first. */
  readonly #tables = new Map<number, DataView>();
  /** Tables on their way out or in. */
  readonly #moving = new Map<number, Promise<void>>();
  #failure: unknown = undefined;

  constructor(file: BlockDevice, allocator: ClusterAllocator, clusterSize: number, l1Size: number) {
    this.#file = file;
    this.#allocator = allocator;
    this.#clusterSize = clusterSize;
    this.#tablesMax = Math.max(4, Math.floor(LIMITS.metadataCache / clusterSize));
    this.#places = new Float64Array(l1Size);
  }

  /**
   * Calls `use` with the table, made if there is none. A table may be written out whenever others run, so `use` is
   * called in the very tick in which the table was at hand, and must be done with it when it returns.
   */
  async use<T>(index: number, use: (table: DataView) => T): Promise<T> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const table = this.#tryGet(index);
      if (table instanceof DataView) return use(table);
      await table;
    }
  }

  #tryGet(index: number): DataView | Promise<void> {
    const cached = this.#tables.get(index);
    if (cached !== undefined) {
      this.#tables.delete(index);
      this.#tables.set(index, cached);
      return cached;
    }
    const moving = this.#moving.get(index);
    if (moving !== undefined) return moving;
    if (this.#places[index] !== 0) return this.#move(index, this.#readBack(index));
    return this.#remember(index, new DataView(new ArrayBuffer(this.#clusterSize)));
  }

  #remember(index: number, table: DataView): DataView {
    this.#tables.set(index, table);
    if (this.#tables.size > this.#tablesMax) this.#evictOldest();
    return table;
  }

  #evictOldest(): void {
    for (const [index, table] of this.#tables) {
      this.#tables.delete(index);
      this.#places[index] ||= this.#allocator.allocate(1);
      const bytes = new Uint8Array(table.buffer);
      const written = async (): Promise<void> => this.#file.pwrite(bytes, this.#places[index] as number);
      void this.#move(index, written());
      return;
    }
  }

  async #readBack(index: number): Promise<void> {
    const bytes = new Uint8Array(this.#clusterSize);
    await this.#file.pread(bytes, this.#places[index] as number);
    this.#remember(index, new DataView(bytes.buffer));
  }

  #move(index: number, work: Promise<void>): Promise<void> {
    const moving = work
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        if (this.#moving.get(index) === moving) this.#moving.delete(index);
      });
    this.#moving.set(index, moving);
    return moving;
  }

  /**
   * Writes every table that is in memory, and returns the L1 table.
   *
   * @throws VimgError `IO`, `NO_SPACE`
   */
  async finish(output: WriteCombiner): Promise<Uint8Array> {
    await Promise.all(this.#moving.values());
    if (this.#failure !== undefined) throw this.#failure;
    const inMemory = [...this.#tables].sort(([a], [b]) => a - b);
    for (const [index, table] of inMemory) {
      const offset = this.#places[index] || this.#allocator.allocate(1);
      this.#places[index] = offset;
      await output.write(offset, new Uint8Array(table.buffer));
    }
    const l1 = new DataView(new ArrayBuffer(this.#places.length * 8));
    for (let index = 0; index < this.#places.length; index++) {
      const offset = this.#places[index] as number;
      if (offset === 0) continue;
      l1.setUint32(index * 8, (HIGH_COPIED | Math.floor(offset / 0x1_0000_0000)) >>> 0);
      l1.setUint32(index * 8 + 4, offset >>> 0);
    }
    return new Uint8Array(l1.buffer);
  }
}
