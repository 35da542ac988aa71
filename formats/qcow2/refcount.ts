/**
 * Refcounts: how many references each host cluster has (QEMU docs/interop/qcow2, "Host cluster management").
 *
 * Two levels: the refcount table points to refcount blocks of one cluster each; a block holds entries of
 * 1, 2, 4 … 64 bits. Entries of whole bytes are big endian; smaller ones fill a byte from its lowest bit on.
 */

/** Entries of a refcount table: bits 0..8 are reserved. */
export const REFCOUNT_TABLE_LOW_RESERVED = 0x0000_01ff;

/** Refcounts that one refcount block holds. */
export function refcountsPerBlock(clusterSize: number, refcountBits: number): number {
  return (clusterSize * 8) / refcountBits;
}

/** Largest refcount that an entry of this width holds, as far as a number is exact. */
export function refcountMax(refcountBits: number): number {
  return Math.min(2 ** refcountBits - 1, Number.MAX_SAFE_INTEGER);
}

/** Reads entry `index` of a refcount block. A 64-bit value past 2^53 is rounded: it is wrong in any case. */
export function readRefcount(block: DataView, index: number, refcountBits: number): number {
  if (refcountBits === 16) return block.getUint16(index * 2);
  if (refcountBits < 8) {
    const bit = index * refcountBits;
    return (block.getUint8(bit >>> 3) >>> (bit & 7)) & ((1 << refcountBits) - 1);
  }
  if (refcountBits === 8) return block.getUint8(index);
  if (refcountBits === 32) return block.getUint32(index * 4);
  return block.getUint32(index * 8) * 0x1_0000_0000 + block.getUint32(index * 8 + 4);
}

/** Writes entry `index` of a refcount block. `value` fits the width. */
export function writeRefcount(block: DataView, index: number, refcountBits: number, value: number): void {
  if (refcountBits === 16) {
    block.setUint16(index * 2, value);
  } else if (refcountBits < 8) {
    const bit = index * refcountBits;
    const mask = ((1 << refcountBits) - 1) << (bit & 7);
    block.setUint8(bit >>> 3, (block.getUint8(bit >>> 3) & ~mask) | (value << (bit & 7)));
  } else if (refcountBits === 8) {
    block.setUint8(index, value);
  } else if (refcountBits === 32) {
    block.setUint32(index * 4, value);
  } else {
    block.setUint32(index * 8, Math.floor(value / 0x1_0000_0000));
    block.setUint32(index * 8 + 4, value >>> 0);
  }
}

/** Clusters that refcount blocks and the refcount table take. */
export interface RefcountClusters {
  readonly blocks: number;
  readonly table: number;
}

/**
 * The refcount structures that an image of `clusters` other clusters needs: they count themselves too, so the
 * numbers are found by repeating until they no longer change.
 */
export function refcountClusters(
  clusters: number,
  clusterSize: number,
  refcountBits: number,
): RefcountClusters {
  const perBlock = refcountsPerBlock(clusterSize, refcountBits);
  const perTableCluster = clusterSize / 8;
  let blocks = 0;
  let table = 0;
  for (;;) {
    const nextBlocks = Math.ceil((clusters + blocks + table) / perBlock);
    const nextTable = Math.ceil(nextBlocks / perTableCluster);
    if (nextBlocks === blocks && nextTable === table) return { blocks, table };
    blocks = nextBlocks;
    table = nextTable;
  }
}
