/** Taking clusters away from a file, a bounded number of entries in each operation. */
import type { Block } from './block.ts';
import { nextLeaf, prune, readEntries } from './block-tree.ts';
import { entryCluster } from './cluster-map.ts';
import { addU64 } from './inode.ts';
import { INODE_AT } from './layout.ts';
import type { Operation } from './operation.ts';
import type { VolumeCore } from './volume-core.ts';

/** Entries that one operation changes at most: the blocks of each must fit into the journal, wherever they lie. */
export const ENTRIES_PER_OPERATION = 128;

/** Entries of one leaf that one operation may go through. */
export interface EntryBatch {
  readonly first: number;
  readonly count: number;
}

/** Batches of all entries in a range that have a block; what has none is passed over, however large. */
export async function* entryBatches(
  core: VolumeCore,
  inode: Block,
  first: number,
  end: number,
): AsyncGenerator<EntryBatch> {
  for (let at: number | undefined = first; ; ) {
    at = await nextLeaf(core.metadata, inode, at);
    if (at === undefined || at >= end) return;
    const entries = await readEntries(core.metadata, inode, at);
    const count = Math.min(entries?.count ?? 1, ENTRIES_PER_OPERATION, end - at);
    yield { first: at, count };
    at += count;
  }
}

/** Takes the clusters of a batch of entries away. */
export async function freeEntries(
  core: VolumeCore,
  operation: Operation,
  inode: Block,
  batch: EntryBatch,
): Promise<void> {
  const entries = await readEntries(core.metadata, inode, batch.first);
  if (!entries) return;
  const { block, offset } = entries;
  let freed = 0;
  operation.edit(block);
  for (let i = 0; i < Math.min(batch.count, entries.count); i++) {
    const at = offset + i * 8;
    const cluster = entryCluster(block.view, at);
    if (cluster === 0) continue;
    await core.counts.drop(operation, cluster);
    block.view.setBigUint64(at, 0n, true);
    freed++;
  }
  if (freed > 0) {
    operation.edit(inode);
    addU64(inode, INODE_AT.clusters, -freed);
  }
  await prune(operation, core.space, inode, batch.first);
}
