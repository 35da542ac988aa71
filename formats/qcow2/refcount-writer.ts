/** Writes the refcounts of a new image, at its end, when no cluster is taken any more but theirs. */
import { VimgError } from '../../src/base/errors.ts';
import type { ClusterAllocator } from './cluster-allocator.ts';
import { REFCOUNT_TABLE_BYTES_MAX } from './header.ts';
import { refcountClusters, refcountsPerBlock, writeRefcount } from './refcount.ts';
import type { WriteCombiner } from './write-combiner.ts';

/**
 * Takes clusters for the refcount table and blocks, and writes both.
 *
 * @returns where the table is
 * @throws VimgError `LIMIT` when the table would be larger than QEMU takes, `NO_SPACE`, `IO`
 */
export async function writeRefcounts(
  allocator: ClusterAllocator,
  output: WriteCombiner,
  clusterSize: number,
  refcountBits: number,
): Promise<{ readonly offset: number; readonly clusters: number }> {
  const needed = refcountClusters(allocator.clusters, clusterSize, refcountBits);
  if (needed.table * clusterSize > REFCOUNT_TABLE_BYTES_MAX) {
    throw new VimgError('LIMIT', 'the image needs a larger refcount table than QEMU takes', {
      op: 'write',
      hint: 'use a larger cluster_size or smaller refcount_bits',
    });
  }
  const tableOffset = allocator.allocate(needed.table);
  const blocksOffset = allocator.allocate(needed.blocks);
  const table = new DataView(new ArrayBuffer(needed.table * clusterSize));
  const perBlock = refcountsPerBlock(clusterSize, refcountBits);
  const allOnes = new DataView(new ArrayBuffer(clusterSize));
  for (let i = 0; i < perBlock; i++) writeRefcount(allOnes, i, refcountBits, 1);
  for (let block = 0; block < needed.blocks; block++) {
    const place = blocksOffset + block * clusterSize;
    table.setUint32(block * 8, Math.floor(place / 0x1_0000_0000));
    table.setUint32(block * 8 + 4, place >>> 0);
    const first = block * perBlock;
    const bytes = allocator.plain(first, perBlock)
      ? allOnes
      : encodeBlock(allocator, first, perBlock, clusterSize, refcountBits);
    await output.write(place, new Uint8Array(bytes.buffer));
  }
  await output.write(tableOffset, new Uint8Array(table.buffer));
  return { offset: tableOffset, clusters: needed.table };
}

function encodeBlock(
  allocator: ClusterAllocator,
  first: number,
  count: number,
  clusterSize: number,
  refcountBits: number,
): DataView {
  const block = new DataView(new ArrayBuffer(clusterSize));
  for (let i = 0; i < count; i++) writeRefcount(block, i, refcountBits, allocator.references(first + i));
  return block;
}
