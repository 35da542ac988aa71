/** What a group begins with when nothing in it is used yet. */
import {
  BACKUP_CLUSTERS,
  BLOCK,
  BLOCKS_PER_CLUSTER,
  blockAddress,
  COUNT_BLOCKS,
  COUNTS_PER_BLOCK,
  GROUP_BLOCKS,
  groupStart,
} from './geometry.ts';
import { setBit } from './group.ts';
import { COUNT_METADATA, COUNT_SYSTEM, GROUP_AT, groupLayout, HEADER } from './layout.ts';

/** Clusters of a group that backups of the superblock take, by their number in it. */
export function backupsIn(index: number, length: number): number[] {
  const start = groupStart(index);
  return BACKUP_CLUSTERS.map((cluster) => cluster - start).filter((i) => i >= 0 && i < length);
}

/** The blocks of a group in which nothing is used yet, unsealed; headers are not filled in. */
export function groupBlocks(
  device: number,
  index: number,
  length: number,
  system: readonly number[] = [],
): { type: 'group' | 'counts'; address: number; bytes: Uint8Array }[] {
  const address = blockAddress(device, groupStart(index) * BLOCKS_PER_CLUSTER);
  const taken = new Set([...backupsIn(index, length), ...system]);
  const header = new Uint8Array(BLOCK);
  groupLayout.encode(
    {
      index,
      clusters: length,
      freeClusters: length - 1 - taken.size,
      freeBlocks: BLOCKS_PER_CLUSTER - GROUP_BLOCKS,
      delegate: 0,
      reserved: 0,
    },
    header,
    HEADER,
  );
  for (let bit = 0; bit < GROUP_BLOCKS; bit++) setBit(header, GROUP_AT.bitmap, bit, true);
  const counts = Array.from({ length: COUNT_BLOCKS }, () => new Uint8Array(header.length));
  const setCount = (i: number, count: number): void => {
    const bytes = counts[Math.floor(i / COUNTS_PER_BLOCK)] as Uint8Array;
    new DataView(bytes.buffer).setUint16(HEADER + (i % COUNTS_PER_BLOCK) * 2, count, true);
  };
  setCount(0, COUNT_METADATA);
  for (const i of taken) setCount(i, COUNT_SYSTEM);
  return [
    { type: 'group' as const, address, bytes: header },
    ...counts.map((bytes, i) => ({ type: 'counts' as const, address: address + 1 + i, bytes })),
  ];
}
