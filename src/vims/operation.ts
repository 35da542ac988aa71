/** One change of metadata: several blocks at one instant, or none of them. */
import { VimgError } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { Block } from './block.ts';
import type { BlockTypeName } from './layout.ts';

type Read = (type: BlockTypeName, address: number, owner?: number) => MaybePromise<Block>;
type Make = (type: BlockTypeName, address: number, owner: number) => Block;

export class Operation {
  /** Clusters that nothing refers to any more. */
  readonly freed: number[] = [];
  /** Clusters that fewer files share: until that is durable, those who left them may come back. */
  readonly unshared: number[] = [];
  /** Gives an inode a number that no other one has. */
  readonly nextBirth: () => number;
  readonly read: Read;
  readonly #make: Make;
  readonly #blocks: Map<number, Block>;
  readonly #running: Set<Block>;
  readonly #edited = new Set<Block>();
  readonly #undo: (() => void)[] = [];

  readonly #most: number;

  /** @param most blocks that one operation may change: the journal must hold them all */
  constructor(
    blocks: Map<number, Block>,
    running: Set<Block>,
    read: Read,
    make: Make,
    nextBirth: () => number,
    most: number = Number.POSITIVE_INFINITY,
  ) {
    this.#most = most;
    this.#blocks = blocks;
    this.#running = running;
    this.read = read;
    this.#make = make;
    this.nextBirth = nextBirth;
  }

  /** To be called before a block is changed. @throws VimgError `LIMIT` */
  edit(block: Block): void {
    if (this.#edited.has(block)) return;
    this.#count(block);
    const before = block.bytes.slice();
    const wasDirty = block.dirty;
    this.undo(() => {
      block.bytes.set(before);
      block.dirty = wasDirty;
      if (!wasDirty) this.#running.delete(block);
    });
    block.dirty = true;
    this.#running.add(block);
  }

  /** A new, empty block in place of whatever was there. */
  create(type: BlockTypeName, address: number, owner: number): Block {
    const before = this.#blocks.get(address);
    const block = this.#make(type, address, owner);
    this.#count(block);
    block.dirty = true;
    this.#blocks.set(address, block);
    this.#running.add(block);
    if (before) this.#running.delete(before);
    this.undo(() => {
      this.#running.delete(block);
      this.#blocks.delete(address);
      if (!before) return;
      this.#blocks.set(address, before);
      if (before.dirty) this.#running.add(before);
    });
    return block;
  }

  #count(block: Block): void {
    this.#edited.add(block);
    if (this.#edited.size <= this.#most) return;
    throw new VimgError('LIMIT', "That would change more at once than the volume's journal holds");
  }

  /** Says that a block is needed no more: it is not written. */
  discard(block: Block): void {
    this.#blocks.delete(block.address);
    const wasRunning = this.#running.delete(block);
    this.undo(() => {
      this.#blocks.set(block.address, block);
      if (wasRunning) this.#running.add(block);
    });
  }

  /** Adds what takes back a change in memory that goes with those of the blocks. */
  undo(work: () => void): void {
    this.#undo.push(work);
  }

  /** Takes everything back, the last change first. */
  undoAll(): void {
    for (const work of this.#undo.reverse()) work();
    this.#undo.length = 0;
  }
}
