/**
 * The blocks of a group as they must be, by what a walk over all files found.
 *
 * Where something could not be read, or leads elsewhere than it did, nothing becomes free: counts only grow, and bits
 * are only set.
 */

import { blockBytes } from './block.ts';
import type { GroupBlocks, GroupUnderCheck } from './check-group.ts';
import type { SpaceUnderCheck } from './check-space.ts';
import {
  countRange,
  expectedCounts,
  judgeCount,
  lengthInUse,
  storedCounts,
  UNKNOWN,
} from './expected-counts.ts';
import { BLOCKS_PER_CLUSTER, COUNTS_PER_BLOCK, firstBlockOf } from './geometry.ts';
import {
  COUNT_MAX,
  COUNT_METADATA,
  GROUP_AT,
  groupLayout,
  HEADER,
  METADATA_CLUSTER_BITMAP,
} from './layout.ts';

/** Blocks that a repair writes, by their address; sealed when they are written. */
export type NewBlocks = Map<number, Uint8Array>;

/** Adds what has to be written of a group. @param provesFree what nothing leads to is surely free */
export async function planGroup(
  space: SpaceUnderCheck,
  group: GroupUnderCheck,
  provesFree: boolean,
  blocks: NewBlocks,
): Promise<void> {
  const found = await group.read(space.view);
  const stored = storedCounts(group, found);
  const length = lengthInUse(space, group, found, stored);
  const expected = expectedCounts(space, group, stored);
  const counts = stored.map((count, i) => {
    if (count !== UNKNOWN && i >= length) return count;
    return newCount(group, i, count, expected[i] as number, provesFree);
  });
  planCounts(space, group, found, counts, blocks);
  const bitmaps = newBitmaps(group, counts, provesFree);
  const volume = space.description.uuid;
  for (const [i, bitmap] of bitmaps) {
    if (i === 0 || bitmap === undefined) continue;
    const address = firstBlockOf(group.clusterAt(i));
    if (Buffer.compare(bitmap, group.metadata.get(i)?.stored ?? new Uint8Array()) === 0) continue;
    const bytes = blockBytes('metadataCluster', volume, address);
    bytes.set(bitmap, METADATA_CLUSTER_BITMAP);
    blocks.set(address, bytes);
  }
  planHeader(space, group, found, { counts: counts.slice(0, length), bitmaps, length }, blocks);
}

/** What a cluster is to be counted as. */
function newCount(
  group: GroupUnderCheck,
  i: number,
  stored: number,
  expected: number,
  provesFree: boolean,
): number {
  if (stored === UNKNOWN) return provesFree ? expected : UNKNOWN;
  if (group.metadata.has(i) && group.referencesTo(i) > 0) return stored;
  if (judgeCount(stored, expected) === 'right' || expected === COUNT_MAX + 1) return stored;
  if (provesFree) return expected;
  return stored < expected ? expected : stored;
}

function planCounts(
  space: SpaceUnderCheck,
  group: GroupUnderCheck,
  found: GroupBlocks,
  counts: Int32Array,
  blocks: NewBlocks,
): void {
  for (const [block, { block: before }] of found.counts.entries()) {
    const [from, to] = countRange(group, block);
    if (counts.subarray(from, to).includes(UNKNOWN)) continue;
    const address = group.header + 1 + block;
    const bytes = before?.bytes.slice() ?? blockBytes('counts', space.description.uuid, address);
    const view = new DataView(bytes.buffer);
    for (let i = from; i < to; i++) {
      view.setUint16(HEADER + (i % COUNTS_PER_BLOCK) * 2, counts[i] as number, true);
    }
    if (!before || Buffer.compare(bytes, before.bytes) !== 0) blocks.set(address, bytes);
  }
}

/** The bitmaps of all clusters that are metadata; undefined for what is not known. */
function newBitmaps(
  group: GroupUnderCheck,
  counts: Int32Array,
  provesFree: boolean,
): Map<number, Uint8Array | undefined> {
  const bitmaps = new Map<number, Uint8Array | undefined>();
  for (const [i, { stored, found }] of group.metadata) {
    if (i !== 0 && counts[i] !== COUNT_METADATA) continue;
    if (provesFree) bitmaps.set(i, found);
    else
      bitmaps.set(
        i,
        stored?.map((byte, at) => byte | (found[at] as number)),
      );
  }
  return bitmaps;
}

/** What the header sums up. */
interface Sums {
  readonly counts: Int32Array;
  readonly bitmaps: ReadonlyMap<number, Uint8Array | undefined>;
  readonly length: number;
}

function planHeader(
  space: SpaceUnderCheck,
  group: GroupUnderCheck,
  { header }: GroupBlocks,
  { counts, bitmaps, length }: Sums,
  blocks: NewBlocks,
): void {
  const bitmap = bitmaps.get(0);
  if (bitmap === undefined) return;
  const before = header.block;
  const known = before && groupLayout.decode(before.bytes, HEADER);
  const allKnown = !counts.includes(UNKNOWN) && ![...bitmaps.values()].includes(undefined);
  if (!known && !allKnown) return;
  const bytes = before?.bytes.slice() ?? blockBytes('group', space.description.uuid, group.header);
  groupLayout.encode(
    {
      index: group.index,
      clusters: length,
      freeClusters: allKnown ? counts.filter((count) => count === 0).length : (known?.freeClusters ?? 0),
      freeBlocks: allKnown ? freeBits(bitmaps) : (known?.freeBlocks ?? 0),
      delegate: known && known.delegate <= space.description.slots ? known.delegate : 0,
      reserved: known?.reserved ?? 0,
    },
    bytes,
    HEADER,
  );
  bytes.set(bitmap, GROUP_AT.bitmap);
  if (!before || Buffer.compare(bytes, before.bytes) !== 0) blocks.set(group.header, bytes);
}

function freeBits(bitmaps: ReadonlyMap<number, Uint8Array | undefined>): number {
  let free = bitmaps.size * BLOCKS_PER_CLUSTER;
  for (const bitmap of bitmaps.values()) {
    for (const byte of bitmap ?? []) for (let bits = byte; bits !== 0; bits &= bits - 1) free--;
  }
  return free;
}
