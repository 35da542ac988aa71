/**
 * Copying a file without copying its data: both files have the clusters from then on, and whoever writes to one of them
 * copies that first.
 *
 * The copy is made in several operations, as a file without a name: a crash in between leaves nothing of it.
 */
import { getU64, setU64 } from './block.ts';
import { makeEntryPlace, readEntries } from './block-tree.ts';
import { entryCluster, entryWritten, setEntry } from './cluster-map.ts';
import { type EntryBatch, entryBatches } from './free-entries.ts';
import { CLUSTER } from './geometry.ts';
import { addU64 } from './inode.ts';
import { CONTENT, INODE_AT } from './layout.ts';
import type { OpenInode } from './open-inode.ts';
import type { Operation } from './operation.ts';

/**
 * Gives an empty file the content of another one. Nobody writes to the source meanwhile: who tries waits.
 *
 * @throws VimgError `NO_SPACE`, `LIMIT` when too many files share a cluster; the target may have a part of it then
 */
export async function copyContent(source: OpenInode, target: OpenInode): Promise<void> {
  while (source.frozen !== undefined) await source.frozen;
  let thaw: () => void = () => undefined;
  source.frozen = new Promise((resolve) => {
    thaw = resolve;
  });
  try {
    await source.writes.idle();
    if (source.inline) await copyInline(source, target);
    else await shareEntries(source, target);
  } finally {
    source.frozen = undefined;
    thaw();
  }
}

async function copyInline(source: OpenInode, target: OpenInode): Promise<void> {
  await source.core.metadata.change((operation) => {
    operation.edit(target.block);
    target.block.bytes.set(source.block.bytes.subarray(INODE_AT.payload), INODE_AT.payload);
    target.block.view.setUint8(INODE_AT.content, CONTENT.inline);
    setU64(target.block.view, INODE_AT.size, getU64(source.block.view, INODE_AT.size));
  });
  target.setSize(source.size);
}

async function shareEntries(source: OpenInode, target: OpenInode): Promise<void> {
  const { core } = source;
  const end = Math.ceil(source.size / CLUSTER);
  for await (const batch of entryBatches(core, source.block, 0, end)) {
    await core.space.prepare();
    await core.metadata.change((operation) => shareBatch(operation, source, target, batch));
  }
  target.setSize(source.size);
}

async function shareBatch(
  operation: Operation,
  source: OpenInode,
  target: OpenInode,
  batch: EntryBatch,
): Promise<void> {
  const { core } = source;
  const entries = await readEntries(core.metadata, source.block, batch.first);
  if (!entries) return;
  const { block, offset } = entries;
  operation.edit(block);
  let shared = 0;
  for (let i = 0; i < batch.count; i++) {
    const at = offset + i * 8;
    const cluster = entryCluster(block.view, at);
    const written = entryWritten(block.view, at);
    if (cluster === 0 || written === 0) continue;
    await core.counts.share(operation, cluster);
    const place = await makeEntryPlace(operation, core.space, target.block, batch.first + i);
    setEntry(place.block.view, place.offset, cluster, written, true);
    setEntry(block.view, at, cluster, written, true);
    shared++;
  }
  if (shared === 0) return;
  operation.edit(target.block);
  addU64(target.block, INODE_AT.clusters, shared);
}
