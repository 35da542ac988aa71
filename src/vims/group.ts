/**
 * One allocation group: which of its clusters may be given away, and its metadata clusters.
 *
 * The counts on disk say what refers to a cluster. In memory a cluster is taken as well while it is reserved for data on
 * its way, and while the commit that freed it is not durable.
 */
import type { MaybePromise } from '../base/maybe-promise.ts';
import { type Block, damaged } from './block.ts';
import { FreeMap, SEGMENT } from './free-map.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  COUNT_BLOCKS,
  COUNTS_PER_BLOCK,
  clusterAddress,
  clusterOnDevice,
  firstBlockOf,
  GROUP_BLOCKS,
  groupStart,
} from './geometry.ts';
import { COUNT_METADATA, GROUP_AT, HEADER, METADATA_CLUSTER_BITMAP } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { Operation } from './operation.ts';

/** Clusters that follow each other. */
export interface Run {
  readonly cluster: number;
  readonly length: number;
}

/** Where a metadata cluster keeps the bitmap of its blocks. */
interface MetadataCluster {
  readonly cluster: number;
  readonly block: number;
  readonly bitmap: number;
  /** Nothing is free below this one. */
  lowest: number;
}

export class Group {
  readonly device: number;
  readonly index: number;
  readonly #metadata: Metadata;
  /** By number in the group. */
  readonly #map: FreeMap;
  readonly #clusters: MetadataCluster[];

  private constructor(
    metadata: Metadata,
    device: number,
    index: number,
    map: FreeMap,
    clusters: MetadataCluster[],
  ) {
    this.#metadata = metadata;
    this.device = device;
    this.index = index;
    this.#map = map;
    this.#clusters = clusters;
  }

  /** Reads a group's header and counts. @throws VimgError `CORRUPT` */
  static async load(metadata: Metadata, device: number, index: number): Promise<Group> {
    const start = groupStart(index);
    const address = blockAddress(device, start * BLOCKS_PER_CLUSTER);
    const header = await metadata.read('group', address);
    const length = header.view.getUint32(GROUP_AT.clusters, true);
    if (length < 2 || length > COUNT_BLOCKS * COUNTS_PER_BLOCK) {
      throw damaged('A group', address, `it claims ${length} clusters`);
    }
    const map = new FreeMap(length);
    const clusters: MetadataCluster[] = [
      {
        cluster: clusterAddress(device, start),
        block: address,
        bitmap: GROUP_AT.bitmap,
        lowest: GROUP_BLOCKS,
      },
    ];
    for (let at = 0; at < length; at += COUNTS_PER_BLOCK) {
      const counts = await metadata.read('counts', address + 1 + at / COUNTS_PER_BLOCK);
      for (let i = at; i < Math.min(length, at + COUNTS_PER_BLOCK); i++) {
        const count = counts.view.getUint16(HEADER + (i - at) * 2, true);
        if (count !== 0 || i === 0) map.take(i, 1);
        if (count === COUNT_METADATA && i > 0) clusters.push(metadataCluster(device, start + i));
      }
    }
    return new Group(metadata, device, index, map, clusters);
  }

  /** Block address of its header. */
  get header(): number {
    return blockAddress(this.device, groupStart(this.index) * BLOCKS_PER_CLUSTER);
  }

  /** Clusters; grows with its device. */
  get length(): number {
    return this.#map.length;
  }

  /** Clusters that may be given away. */
  get free(): number {
    return this.#map.free;
  }

  get hasSegment(): boolean {
    return this.#map.wholeSegments > 0;
  }

  #cluster(i: number): number {
    return clusterAddress(this.device, groupStart(this.index) + i);
  }

  #indexOf(cluster: number): number {
    return clusterOnDevice(cluster) - groupStart(this.index);
  }

  #runOf(run: { first: number; length: number } | undefined): Run | undefined {
    return run && { cluster: this.#cluster(run.first), length: run.length };
  }

  /** The run that `cluster` is in, of those that may be given away; see `FreeMap.runAround`. */
  runAround(cluster: number, before: number, after: number): Run | undefined {
    return this.#runOf(this.#map.runAround(this.#indexOf(cluster), before, after));
  }

  /** The start of a segment that may be given away as a whole. */
  findSegment(): Run | undefined {
    const first = this.#map.findSegment();
    return first === undefined ? undefined : { cluster: this.#cluster(first), length: SEGMENT };
  }

  /** The first run of `want`; the longest one when there is none, if that is longer than `least`. */
  findRun(want: number, least = 0): Run | undefined {
    return this.#runOf(this.#map.findRun(want, least));
  }

  /** Nobody else is given these from now on. */
  take({ cluster, length }: Run): void {
    this.#map.take(this.#indexOf(cluster), length);
  }

  /** They may be given away again. */
  give(cluster: number): void {
    this.#map.give(this.#indexOf(cluster));
  }

  /** The count block that counts a cluster, and where in it. */
  #place(cluster: number): { block: number; offset: number } {
    const i = this.#indexOf(cluster);
    return {
      block: this.header + 1 + Math.floor(i / COUNTS_PER_BLOCK),
      offset: HEADER + (i % COUNTS_PER_BLOCK) * 2,
    };
  }

  count(cluster: number): MaybePromise<number> {
    const { block, offset } = this.#place(cluster);
    const counts = this.#metadata.read('counts', block);
    if (counts instanceof Promise) return counts.then((found) => found.view.getUint16(offset, true));
    return counts.view.getUint16(offset, true);
  }

  /** Sets a count. `change` is by how much the clusters with count 0 become more. */
  async setCount(operation: Operation, cluster: number, count: number, change: -1 | 0 | 1): Promise<void> {
    const { block, offset } = this.#place(cluster);
    const counts = await operation.read('counts', block);
    operation.edit(counts);
    counts.view.setUint16(offset, count, true);
    if (change !== 0) await this.#adjust(operation, GROUP_AT.freeClusters, change);
  }

  async #adjust(operation: Operation, offset: number, change: number): Promise<Block> {
    const header = await operation.read('group', this.header);
    operation.edit(header);
    header.view.setUint32(offset, header.view.getUint32(offset, true) + change, true);
    return header;
  }

  /** Free blocks in its metadata clusters. */
  async freeBlocks(): Promise<number> {
    const header = await this.#metadata.read('group', this.header);
    return header.view.getUint32(GROUP_AT.freeBlocks, true);
  }

  /** Takes a metadata block. Undefined when none is free. */
  async takeBlock(operation: Operation): Promise<number | undefined> {
    if ((await this.freeBlocks()) === 0) return undefined;
    for (const place of this.#clusters) {
      if (place.lowest >= BLOCKS_PER_CLUSTER) continue;
      const block = await this.#bitmapBlock(operation, place);
      const found = findZero(block.bytes, place.bitmap, place.lowest);
      const before = place.lowest;
      operation.undo(() => {
        place.lowest = Math.min(place.lowest, before);
      });
      place.lowest = found + 1;
      if (found === BLOCKS_PER_CLUSTER) continue;
      operation.edit(block);
      setBit(block.bytes, place.bitmap, found, true);
      await this.#adjust(operation, GROUP_AT.freeBlocks, -1);
      return firstBlockOf(place.cluster) + found;
    }
    return undefined;
  }

  /** Gives a metadata block back. */
  async giveBlock(operation: Operation, address: number): Promise<void> {
    const place = this.#clusters.find(({ cluster }) => {
      const start = firstBlockOf(cluster);
      return address >= start && address < start + BLOCKS_PER_CLUSTER;
    });
    if (!place) throw damaged('A block', address, 'it is in no metadata cluster');
    const block = await this.#bitmapBlock(operation, place);
    const at = address - firstBlockOf(place.cluster);
    operation.edit(block);
    setBit(block.bytes, place.bitmap, at, false);
    place.lowest = Math.min(place.lowest, at);
    await this.#adjust(operation, GROUP_AT.freeBlocks, 1);
  }

  async #bitmapBlock(operation: Operation, place: MetadataCluster): Promise<Block> {
    return operation.read(place.bitmap === GROUP_AT.bitmap ? 'group' : 'metadataCluster', place.block);
  }

  /** Makes a reserved cluster, which was zeroed, one of metadata. */
  async addMetadataCluster(operation: Operation, cluster: number): Promise<void> {
    await this.setCount(operation, cluster, COUNT_METADATA, -1);
    const place = metadataCluster(this.device, clusterOnDevice(cluster));
    const block = operation.create('metadataCluster', place.block, 0);
    setBit(block.bytes, METADATA_CLUSTER_BITMAP, 0, true);
    await this.#adjust(operation, GROUP_AT.freeBlocks, BLOCKS_PER_CLUSTER - 1);
    this.#clusters.push(place);
    operation.undo(() => {
      this.#clusters.splice(this.#clusters.indexOf(place), 1);
    });
  }

  /** Says on disk that it has so many clusters; `extend` follows when that is done. */
  async setLength(operation: Operation, length: number): Promise<void> {
    const header = await this.#adjust(operation, GROUP_AT.freeClusters, length - this.length);
    header.view.setUint32(GROUP_AT.clusters, length, true);
  }

  /** Clusters up to its new end may be given away, but for some. */
  extend(length: number, taken: readonly number[]): void {
    this.#map.grow(length);
    for (const i of taken) this.#map.take(i, 1);
  }
}

function metadataCluster(device: number, cluster: number): MetadataCluster {
  const address = clusterAddress(device, cluster);
  return { cluster: address, block: firstBlockOf(address), bitmap: METADATA_CLUSTER_BITMAP, lowest: 1 };
}

/** The first bit from `from` on that is 0; the number of bits when none is. */
function findZero(bytes: Uint8Array, bitmap: number, from: number): number {
  let i = from;
  while (i < BLOCKS_PER_CLUSTER && ((bytes[bitmap + (i >> 3)] as number) >> (i & 7)) & 1) i++;
  return i;
}

export function setBit(bytes: Uint8Array, bitmap: number, bit: number, value: boolean): void {
  const at = bitmap + (bit >> 3);
  const mask = 1 << (bit & 7);
  bytes[at] = value ? (bytes[at] as number) | mask : (bytes[at] as number) & ~mask;
}
