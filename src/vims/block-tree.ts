/**
 * A table of 64-bit entries below an inode, of any size and mostly empty: what is empty has no blocks.
 *
 * With depth 0 the entries are in the inode. Each level more puts blocks of 502 entries below it:
 *
 *     inode (488) ──► tree block, level 1 (502) ──► leaf, level 0 (502) ──► entry
 *
 * An entry that is 0 is none. Files have a cluster in each entry (cluster-map.ts), folders the address of a bucket.
 */
import { VimgError } from '../base/errors.ts';
import { type Block, damaged, getU64, setU64 } from './block.ts';
import { BLOCK_TYPES, INODE_AT, ROOT_ENTRIES, TREE_AT, TREE_DEPTH_MAX, TREE_ENTRIES } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { Operation } from './operation.ts';
import type { Space } from './space.ts';

/** Where an entry is. */
export interface EntryPlace {
  readonly block: Block;
  /** Bytes from the start of the block. */
  readonly offset: number;
}

/** Entries that lie side by side in one block. */
export interface EntryRange extends EntryPlace {
  /** Index of the first. */
  readonly first: number;
  readonly count: number;
}

/** Entries that one block on each level stands for: 1, 502, 502²… */
const SPANS: readonly number[] = Array.from(
  { length: TREE_DEPTH_MAX + 1 },
  (_, level) => TREE_ENTRIES ** level,
);

/** Entries below one pointer of a block of this level. */
export function treeSpan(level: number): number {
  return SPANS[level] as number;
}

function depthOf(inode: Block): number {
  return inode.view.getUint8(INODE_AT.depth);
}

/** Entries that a tree of this depth can have. */
function treeCapacity(depth: number): number {
  return ROOT_ENTRIES * (SPANS[depth] as number);
}

/** Entries that a table can have at most. */
const TREE_CAPACITY_MAX: number = treeCapacity(TREE_DEPTH_MAX);

/**
 * Where the entry of `index` is, if everything on the way is in memory: undefined where there is no block for it, or
 * the address of the block that must be read first.
 */
export function findEntry(metadata: Metadata, inode: Block, index: number): EntryPlace | number | undefined {
  let level = depthOf(inode);
  if (index >= treeCapacity(level)) return undefined;
  let span = SPANS[level] as number;
  let block = inode;
  let slot = Math.floor(index / span);
  let offset = INODE_AT.payload + slot * 8;
  let first = slot * span;
  while (level > 0) {
    const address = getU64(block.view, offset);
    if (address === 0) return undefined;
    const child = metadata.peek(address);
    if (!child) return address;
    level--;
    checkNode(child, inode, level, first);
    span = SPANS[level] as number;
    slot = Math.floor((index - first) / span);
    offset = TREE_AT.entries + slot * 8;
    first += slot * span;
    block = child;
  }
  return { block, offset };
}

function checkNode(node: Block, inode: Block, level: number, first: number): void {
  if (
    node.type === BLOCK_TYPES.tree &&
    node.owner === inode.address &&
    node.view.getUint32(TREE_AT.level, true) === level &&
    getU64(node.view, TREE_AT.first) === first
  ) {
    return;
  }
  throw damaged('A tree block', node.address, 'it belongs to another place of its file, or to another file');
}

/** As `findEntry`; reads what is missing. */
export async function readEntryPlace(
  metadata: Metadata,
  inode: Block,
  index: number,
): Promise<EntryPlace | undefined> {
  for (;;) {
    const place = findEntry(metadata, inode, index);
    if (typeof place !== 'number') return place;
    await metadata.read('tree', place, inode.address);
  }
}

/** The entries of the leaf that `index` is in, from `index` on; undefined where there is no leaf. */
export async function readEntries(
  metadata: Metadata,
  inode: Block,
  index: number,
): Promise<EntryRange | undefined> {
  const place = await readEntryPlace(metadata, inode, index);
  if (!place) return undefined;
  const end =
    place.block === inode ? INODE_AT.payload + ROOT_ENTRIES * 8 : TREE_AT.entries + TREE_ENTRIES * 8;
  return { ...place, first: index, count: (end - place.offset) / 8 };
}

/** The first index from `index` on that is in a leaf which exists; undefined when there is none. */
export async function nextLeaf(metadata: Metadata, inode: Block, index: number): Promise<number | undefined> {
  const depth = depthOf(inode);
  if (depth === 0) return index < ROOT_ENTRIES ? index : undefined;
  for (let at = index; at < treeCapacity(depth); ) {
    const skip = await emptySpan(metadata, inode, at);
    if (skip === 0) return at;
    at = (Math.floor(at / skip) + 1) * skip;
  }
  return undefined;
}

/** One level down on the way to `index`. */
interface Step {
  /** Of the pointer, in its block. */
  readonly offset: number;
  /** Where it leads; 0 for nowhere. */
  readonly address: number;
  /** Index of the first entry below it. */
  readonly first: number;
}

function stepTo(inode: Block, block: Block, level: number, first: number, index: number): Step {
  const span = SPANS[level] as number;
  const slot = Math.floor((index - first) / span);
  const offset = (block === inode ? INODE_AT.payload : TREE_AT.entries) + slot * 8;
  return { offset, address: getU64(block.view, offset), first: first + slot * span };
}

/** How many entries the empty pointer on the way to `index` stands for; 0 when there is a leaf. */
async function emptySpan(metadata: Metadata, inode: Block, index: number): Promise<number> {
  let block = inode;
  let first = 0;
  for (let level = depthOf(inode); level > 0; level--) {
    const step = stepTo(inode, block, level, first, index);
    if (step.address === 0) return SPANS[level] as number;
    block = await metadata.read('tree', step.address, inode.address);
    first = step.first;
    checkNode(block, inode, level - 1, first);
  }
  return 0;
}

/** Where the entry of `index` is, to be changed: makes the blocks on the way, and edits the last. */
export async function makeEntryPlace(
  operation: Operation,
  space: Space,
  inode: Block,
  index: number,
): Promise<EntryPlace> {
  if (index >= TREE_CAPACITY_MAX) throw new VimgError('LIMIT', 'The file would be too large for a volume');
  while (index >= treeCapacity(depthOf(inode))) await deepen(operation, space, inode);
  let block = inode;
  let first = 0;
  for (let level = depthOf(inode); level > 0; level--) {
    const { address, offset, first: start } = stepTo(inode, block, level, first, index);
    first = start;
    if (address !== 0) {
      block = await operation.read('tree', address, inode.address);
      checkNode(block, inode, level - 1, first);
      continue;
    }
    const child = await makeNode(operation, space, inode, level - 1, first);
    operation.edit(block);
    setU64(block.view, offset, child.address);
    block = child;
  }
  operation.edit(block);
  const offset = (block === inode ? INODE_AT.payload : TREE_AT.entries) + (index - first) * 8;
  return { block, offset };
}

async function makeNode(
  operation: Operation,
  space: Space,
  inode: Block,
  level: number,
  first: number,
): Promise<Block> {
  const address = await space.takeBlock(operation, inode.address);
  const node = operation.create('tree', address, inode.address);
  node.view.setUint32(TREE_AT.level, level, true);
  setU64(node.view, TREE_AT.first, first);
  return node;
}

/** Puts the inode's entries into a block below it. */
async function deepen(operation: Operation, space: Space, inode: Block): Promise<void> {
  const depth = depthOf(inode);
  const root = inode.bytes.subarray(INODE_AT.payload);
  const empty = root.every((byte) => byte === 0);
  const node = empty ? undefined : await makeNode(operation, space, inode, depth, 0);
  operation.edit(inode);
  node?.bytes.set(root, TREE_AT.entries);
  root.fill(0);
  if (node) setU64(inode.view, INODE_AT.payload, node.address);
  inode.view.setUint8(INODE_AT.depth, depth + 1);
}

/** Frees the blocks on the way to `index` that have no entries any more, the lowest first. */
export async function prune(operation: Operation, space: Space, inode: Block, index: number): Promise<void> {
  const path: EntryPlace[] = [];
  let block = inode;
  let first = 0;
  for (let level = depthOf(inode); level > 0; level--) {
    const step = stepTo(inode, block, level, first, index);
    path.push({ block, offset: step.offset });
    if (step.address === 0) break;
    block = await operation.read('tree', step.address, inode.address);
    first = step.first;
    checkNode(block, inode, level - 1, first);
  }
  for (const { block: parent, offset } of path.reverse()) {
    const address = getU64(parent.view, offset);
    if (address === 0) continue;
    const child = await operation.read('tree', address, inode.address);
    if (!child.bytes.subarray(TREE_AT.entries).every((byte) => byte === 0)) return;
    // in one tick: readers do not wait for operations, and must not be led to a block that is not in memory any more
    operation.edit(parent);
    setU64(parent.view, offset, 0);
    operation.discard(child);
    await space.giveBlock(operation, address);
  }
}
