/**
 * Host clusters of an image that is being written: handed out in order, never taken back, their refcounts known.
 *
 * Invariants: cluster 0 is the header's. A cluster that was handed out has refcount 1, plus one for each further
 * compressed cluster that touches it; only those further ones take memory (2 bytes for each host cluster near them).
 * Compressed clusters are packed byte after byte and may cross into the next host cluster when that one is theirs.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { refcountMax } from './refcount.ts';

/** Clusters whose further references are kept in one array. */
const PAGE_CLUSTERS = 8192;

export class ClusterAllocator {
  readonly #file: BlockDevice;
  readonly #clusterSize: number;
  readonly #referencesMax: number;
  #next = 1;
  /** References beyond the first, by page. */
  readonly #further = new Map<number, Uint16Array>();
  /** Where the next compressed cluster may go on, and the end of the host cluster that it lies in. */
  #packAt = 0;
  #packEnd = 0;

  constructor(file: BlockDevice, clusterSize: number, refcountBits: number) {
    this.#file = file;
    this.#clusterSize = clusterSize;
    this.#referencesMax = Math.min(refcountMax(refcountBits), 0xffff);
  }

  /** Clusters handed out, the header's included. */
  get clusters(): number {
    return this.#next;
  }

  /**
   * Takes `count` clusters in a row.
   *
   * @returns the offset of the first
   * @throws VimgError `NO_SPACE` when a device of fixed size has no room for them
   */
  allocate(count: number): number {
    const offset = this.#next * this.#clusterSize;
    const end = offset + count * this.#clusterSize;
    if (!this.#file.limits.growable && end > this.#file.size) {
      throw new VimgError('NO_SPACE', `the image does not fit the ${this.#file.size} bytes of the target`, {
        op: 'write',
        path: this.#file.name,
      });
    }
    this.#next += count;
    return offset;
  }

  /** Takes room for a compressed cluster of `length` bytes, less than a cluster. @returns its offset */
  allocateBytes(length: number): number {
    const cluster = Math.floor(this.#packAt / this.#clusterSize);
    const open = this.#packAt < this.#packEnd && this.references(cluster) < this.#referencesMax;
    const left = open ? this.#packEnd - this.#packAt : 0;
    if (length <= left) {
      this.#share(cluster);
      return this.#pack(this.#packAt, length, this.#packEnd);
    }
    const followed = this.#next * this.#clusterSize !== this.#packEnd;
    const offset = this.allocate(1);
    if (left > 0 && !followed) {
      this.#share(cluster);
      return this.#pack(this.#packAt, length, offset + this.#clusterSize);
    }
    return this.#pack(offset, length, offset + this.#clusterSize);
  }

  #pack(offset: number, length: number, end: number): number {
    this.#packAt = offset + length;
    this.#packEnd = end;
    return offset;
  }

  #share(cluster: number): void {
    const page = Math.floor(cluster / PAGE_CLUSTERS);
    let counts = this.#further.get(page);
    if (counts === undefined) {
      counts = new Uint16Array(PAGE_CLUSTERS);
      this.#further.set(page, counts);
    }
    counts[cluster % PAGE_CLUSTERS] = (counts[cluster % PAGE_CLUSTERS] as number) + 1;
  }

  /** References of a cluster; 0 for one that was not handed out. */
  references(cluster: number): number {
    if (cluster >= this.#next) return 0;
    return 1 + (this.#further.get(Math.floor(cluster / PAGE_CLUSTERS))?.[cluster % PAGE_CLUSTERS] ?? 0);
  }

  /** Whether every cluster of the range has exactly one reference, as far as that is known without looking at each. */
  plain(first: number, count: number): boolean {
    if (first + count > this.#next) return false;
    const lastPage = Math.floor((first + count - 1) / PAGE_CLUSTERS);
    for (let page = Math.floor(first / PAGE_CLUSTERS); page <= lastPage; page++) {
      if (this.#further.has(page)) return false;
    }
    return true;
  }
}
