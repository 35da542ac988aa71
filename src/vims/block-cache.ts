/**
 * Metadata blocks in memory: read when they are asked for, held against what they must be, let go when they were not used
 * lately. What is being changed, or is not in its place yet, stays.
 */
import { LIMITS } from '../base/limits.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import { Block, blockProblem, damaged, uuidBytes } from './block.ts';
import type { DeviceSet } from './device-set.ts';
import { BLOCK } from './geometry.ts';
import { BLOCK_TYPES, type BlockTypeName } from './layout.ts';

/** Blocks that are read between two looks at least: more than lie on the way to any place of a file. */
const SPARE_MIN = 8;

export class BlockCache {
  /** By address. Operations put blocks in and take them out. */
  readonly blocks: Map<number, Block> = new Map();
  readonly #devices: DeviceSet;
  readonly #uuid: Uint8Array;
  readonly #loading = new Map<number, Promise<Block>>();
  readonly #isNeeded: (address: number) => boolean;
  /** While an operation is under way, what it uses must not be let go. */
  held = false;
  /** Blocks in memory from which on there is a look at what can be let go. */
  #sweepAbove: number = LIMITS.metadataCache / BLOCK;

  /** @param isNeeded whether a block's place has something older */
  constructor(devices: DeviceSet, volume: string, isNeeded: (address: number) => boolean) {
    this.#devices = devices;
    this.#uuid = uuidBytes(volume);
    this.#isNeeded = isNeeded;
  }

  /** The block, when it is in memory. Not checked for what it is. */
  peek(address: number): Block | undefined {
    const block = this.blocks.get(address);
    if (block) block.used = true;
    return block;
  }

  /** @throws VimgError `CORRUPT` when the block is not what it must be, `IO` */
  read(type: BlockTypeName, address: number, owner?: number): MaybePromise<Block> {
    const block = this.peek(address);
    if (block) return this.#checked(block, type, owner);
    const loading = this.#loading.get(address) ?? this.#load(address);
    return loading.then((loaded) => this.#checked(loaded, type, owner));
  }

  #load(address: number): Promise<Block> {
    const loading = this.#loadNow(address).finally(() => this.#loading.delete(address));
    this.#loading.set(address, loading);
    return loading;
  }

  async #loadNow(address: number): Promise<Block> {
    const bytes = new Uint8Array(BLOCK);
    await this.#devices.readBlock(bytes, address);
    const known = this.blocks.get(address);
    if (known) return known;
    const block = new Block(address, bytes);
    block.unchecked = true;
    this.blocks.set(address, block);
    if (!this.held) this.sweep();
    return block;
  }

  #checked(block: Block, type: BlockTypeName, owner: number | undefined): Block {
    const isRight = block.type === BLOCK_TYPES[type] && (owner === undefined || block.owner === owner);
    if (!block.unchecked && isRight) return block;
    const expected = {
      type,
      volume: this.#uuid,
      address: block.address,
      ...(owner === undefined ? {} : { owner }),
    };
    const problem = block.unchecked ? blockProblem(block.bytes, expected) : 'it is another one';
    if (problem) {
      if (block.unchecked) this.blocks.delete(block.address);
      throw damaged(`A ${type} block`, block.address, problem);
    }
    block.unchecked = false;
    return block;
  }

  /**
   * Lets go of what was not used lately, when there is too much. What must stay may be more than the limit by itself;
   * then a number of others are read before the next look, so that who needs several at once finds them all.
   */
  sweep(): void {
    if (this.blocks.size <= this.#sweepAbove) return;
    const max = LIMITS.metadataCache / BLOCK;
    const found = this.blocks.size;
    let looked = 0;
    for (const [address, block] of this.blocks) {
      if (this.blocks.size <= max * 0.9 || ++looked > found) break;
      const stays = block.dirty || block.pins > 0 || block.used || this.#isNeeded(address);
      this.blocks.delete(address);
      if (stays) this.blocks.set(address, block);
      block.used = false;
    }
    this.#sweepAbove = Math.max(max, this.blocks.size + Math.max(SPARE_MIN, max / 8));
  }
}
