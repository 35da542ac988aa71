/** One allocation group as a check sees it: what its blocks say, and what was found to be in use. */
import { type BlockView, type FoundBlock, READS_AT_ONCE } from './check-view.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  COUNTS_PER_BLOCK,
  clusterAddress,
  clusterOnDevice,
  firstBlockOf,
  GROUP_BLOCKS,
  groupLength,
  groupStart,
} from './geometry.ts';
import { COUNT_MAX, COUNT_METADATA, GROUP_AT, HEADER, METADATA_CLUSTER_BITMAP } from './layout.ts';

const BITMAP = BLOCKS_PER_CLUSTER / 8;
const TYPES = ['group', 'counts', 'counts', 'counts', 'counts'] as const;
/** In `#found`: what no file can have. */
const RESERVED = 0xffff;

/** The blocks of one metadata cluster. */
interface MetadataBlocks {
  /** As its bitmap says; undefined when that is damaged. */
  stored: Uint8Array | undefined;
  /** Found to be in use. */
  readonly found: Uint8Array;
}

/** The blocks that a group begins with. */
export interface GroupBlocks {
  readonly header: FoundBlock;
  readonly counts: readonly FoundBlock[];
}

export class GroupUnderCheck {
  readonly device: number;
  readonly index: number;
  /** Clusters that it has by the size of its device. */
  readonly length: number;
  /** Clusters that backups of the superblock and journals take, by their number in it. */
  readonly system: ReadonlySet<number>;
  /** Its metadata clusters, by their number in it. */
  readonly metadata: Map<number, MetadataBlocks> = new Map();
  headerIsWhole = false;
  /** None of its blocks is anything. */
  isBlank = false;
  /** What refers to each cluster; made when something does. */
  #found: Uint16Array | undefined;
  /** Clusters that an entry leads to which is not marked as shared, a bit for each. */
  #bare: Uint8Array | undefined;

  private constructor(device: number, index: number, length: number, system: ReadonlySet<number>) {
    this.device = device;
    this.index = index;
    this.length = length;
    this.system = system;
  }

  static async examine(
    view: BlockView,
    device: number,
    index: number,
    deviceClusters: number,
    system: ReadonlySet<number>,
  ): Promise<GroupUnderCheck> {
    const group = new GroupUnderCheck(device, index, groupLength(index, deviceClusters), system);
    const { header, counts } = await group.read(view);
    group.headerIsWhole = header.block !== undefined;
    group.isBlank = !header.block && counts.every(({ block }) => !block);
    group.metadata.set(0, {
      stored: header.block?.bytes.slice(GROUP_AT.bitmap, GROUP_AT.bitmap + BITMAP),
      found: new Uint8Array(BITMAP),
    });
    for (let bit = 0; bit < GROUP_BLOCKS; bit++) group.takeBlock(0, bit);
    await group.#findMetadata(view, counts);
    return group;
  }

  /** Block address of its header. */
  get header(): number {
    return blockAddress(this.device, groupStart(this.index) * BLOCKS_PER_CLUSTER);
  }

  clusterAt(i: number): number {
    return clusterAddress(this.device, groupStart(this.index) + i);
  }

  /** The number of a cluster in it. */
  indexOf(cluster: number): number {
    return clusterOnDevice(cluster) - groupStart(this.index);
  }

  /** Its header and counts, as they are. */
  async read(view: BlockView): Promise<GroupBlocks> {
    const [header, ...counts] = await view.findRun(TYPES, this.header);
    return { header: header as FoundBlock, counts };
  }

  /** A cluster that is counted as one of metadata is one when its first block says so too. */
  async #findMetadata(view: BlockView, counts: readonly FoundBlock[]): Promise<void> {
    const marked: number[] = [];
    for (let i = 1; i < this.length; i++) {
      const { block } = counts[Math.floor(i / COUNTS_PER_BLOCK)] as FoundBlock;
      if (block && countIn(block.view, i) === COUNT_METADATA && !this.system.has(i)) marked.push(i);
    }
    for (let at = 0; at < marked.length; at += READS_AT_ONCE) {
      const part = marked.slice(at, at + READS_AT_ONCE);
      const blocks = await view.findAll(
        'metadataCluster',
        part.map((i) => firstBlockOf(this.clusterAt(i))),
      );
      for (const [k, { block }] of blocks.entries()) {
        if (!block) continue;
        const stored = block.bytes.slice(METADATA_CLUSTER_BITMAP, METADATA_CLUSTER_BITMAP + BITMAP);
        this.#metadataAt(part[k] as number).stored = stored;
      }
    }
  }

  #metadataAt(i: number): MetadataBlocks {
    let blocks = this.metadata.get(i);
    if (!blocks) {
      blocks = { stored: undefined, found: new Uint8Array(BITMAP) };
      if (i !== 0) blocks.found[0] = 1; // its own bitmap
      this.metadata.set(i, blocks);
      if (this.#found && (this.#found[i] as number) === 0) this.#found[i] = RESERVED;
    }
    return blocks;
  }

  /** Says that a block of a cluster is in use. @returns false when it was already */
  takeBlock(i: number, block: number): boolean {
    const { found } = this.#metadataAt(i);
    const mask = 1 << (block & 7);
    if (((found[block >> 3] as number) & mask) !== 0) return false;
    found[block >> 3] = (found[block >> 3] as number) | mask;
    return true;
  }

  /** Says that an entry leads to a cluster. @returns false when no file can have it */
  takeCluster(i: number, shared: boolean): boolean {
    this.#found ??= this.#makeFound();
    const count = this.#found[i] as number;
    if (count === RESERVED) return false;
    if (count <= COUNT_MAX) this.#found[i] = count + 1;
    if (!shared) {
      this.#bare ??= new Uint8Array(Math.ceil(this.length / 8));
      this.#bare[i >> 3] = (this.#bare[i >> 3] as number) | (1 << (i & 7));
    }
    return true;
  }

  #makeFound(): Uint16Array {
    const found = new Uint16Array(this.length);
    for (const i of this.system) found[i] = RESERVED;
    for (const i of this.metadata.keys()) found[i] = RESERVED;
    return found;
  }

  /** Entries that lead to a cluster. */
  referencesTo(i: number): number {
    const count = this.#found?.[i] ?? 0;
    return count === RESERVED ? 0 : count;
  }

  /** Entries that lead to each of its clusters; what stands where no file can have any means nothing. */
  references(): Uint16Array {
    return this.#found?.slice() ?? new Uint16Array(this.length);
  }

  /** Whether one of several files that have a cluster would write to it as if it were alone. */
  isEndangered(i: number): boolean {
    if (this.referencesTo(i) < 2) return false;
    return (((this.#bare?.[i >> 3] ?? 0) >> (i & 7)) & 1) === 1;
  }

  /** Nothing of it is whole, and nothing leads to it. */
  get isUnused(): boolean {
    return this.isBlank && this.#found === undefined && this.metadata.size === 1 && !this.#hasInodes();
  }

  #hasInodes(): boolean {
    const found = this.metadata.get(0)?.found ?? [];
    return found.some((byte, at) => (at === 0 ? byte !== 2 ** GROUP_BLOCKS - 1 : byte !== 0));
  }

  /** Blocks of it that are marked as used. */
  get markedBlocks(): number {
    let count = 0;
    for (const { stored } of this.metadata.values()) {
      for (const byte of stored ?? []) for (let bits = byte; bits !== 0; bits &= bits - 1) count++;
    }
    return count;
  }
}

/** The count of a cluster, in the block that has it. */
export function countIn(counts: DataView, i: number): number {
  return counts.getUint16(HEADER + (i % COUNTS_PER_BLOCK) * 2, true);
}
