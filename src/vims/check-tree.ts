/** The tree below an inode, block by block. Blocks that cannot be read are told of, and passed over. */

import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { type Block, getU64 } from './block.ts';
import { treeSpan } from './block-tree.ts';
import { shownBlock, type VolumeFindings } from './check-findings.ts';
import { type Owner, shownRange, type Usage } from './check-usage.ts';
import { type BlockView, READS_AT_ONCE } from './check-view.ts';
import { INODE_AT, ROOT_ENTRIES, TREE_AT, TREE_ENTRIES } from './layout.ts';

/** Gets the entries of each leaf: `count` of them from `offset` in the block, the first with the number `first`. */
export type LeafVisitor = (block: Block, offset: number, first: number, count: number) => void;

/** Pointers of one block that are not 0: which ones, and where they lead. */
interface Pointers {
  readonly slots: number[];
  readonly addresses: number[];
}

export class TreeWalk {
  readonly #view: BlockView;
  readonly #usage: Usage;
  readonly #findings: VolumeFindings;

  constructor(view: BlockView, usage: Usage, findings: VolumeFindings) {
    this.#view = view;
    this.#usage = usage;
    this.#findings = findings;
  }

  /** @returns whether every block of the tree could be read */
  run(inode: Block, owner: Owner, leaf: LeafVisitor): MaybePromise<boolean> {
    const depth = inode.view.getUint8(INODE_AT.depth);
    if (depth > 0) return this.#below(inode, INODE_AT.payload, ROOT_ENTRIES, depth, 0, inode, owner, leaf);
    leaf(inode, INODE_AT.payload, 0, ROOT_ENTRIES);
    return true;
  }

  async #below(
    parent: Block,
    offset: number,
    count: number,
    level: number,
    first: number,
    inode: Block,
    owner: Owner,
    leaf: LeafVisitor,
  ): Promise<boolean> {
    const { slots, addresses } = pointersIn(parent, offset, count);
    const span = treeSpan(level);
    let whole = true;
    for (let at = 0; at < slots.length; at += READS_AT_ONCE) {
      const part = addresses.slice(at, at + READS_AT_ONCE);
      const reading = this.#view.findAll('tree', part, inode.address);
      const found = isPromise(reading) ? await reading : reading;
      for (const [i, { block, problem }] of found.entries()) {
        const start = first + (slots[at + i] as number) * span;
        const wrong = problem ?? (block && this.#misplaced(block, owner, level - 1, start, span));
        if (wrong !== undefined || !block) {
          this.#lost(owner, part[i] as number, wrong ?? 'it is not there', start, span);
          whole = false;
        } else if (level === 1) leaf(block, TREE_AT.entries, start, TREE_ENTRIES);
        else {
          const below = await this.#below(
            block,
            TREE_AT.entries,
            TREE_ENTRIES,
            level - 1,
            start,
            inode,
            owner,
            leaf,
          );
          whole &&= below;
        }
      }
    }
    return whole;
  }

  #misplaced(block: Block, owner: Owner, level: number, first: number, span: number): string | undefined {
    const { view } = block;
    if (view.getUint32(TREE_AT.level, true) !== level || getU64(view, TREE_AT.first) !== first) {
      return 'it belongs to another place of its file';
    }
    const taken = this.#usage.block(block.address, owner, first, span);
    if (taken === 'again') return 'it is used a second time';
    return taken === 'new' ? undefined : taken.problem;
  }

  #lost(owner: Owner, address: number, problem: string, first: number, span: number): void {
    const { hasRoom } = this.#findings;
    const message = (): string =>
      `${shownRange(owner, first, span)}: tree ${shownBlock(address)}: ${problem}`;
    this.#findings.lost(hasRoom ? message() : '');
  }
}

function pointersIn({ view }: Block, offset: number, count: number): Pointers {
  const pointers: Pointers = { slots: [], addresses: [] };
  for (let slot = 0; slot < count; slot++) {
    const address = getU64(view, offset + slot * 8);
    if (address === 0) continue;
    pointers.slots.push(slot);
    pointers.addresses.push(address);
  }
  return pointers;
}
