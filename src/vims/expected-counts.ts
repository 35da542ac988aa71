/** What the counts and bitmaps of a group must be, by what a walk over all files found. */
import { countIn, type GroupBlocks, type GroupUnderCheck } from './check-group.ts';
import type { SpaceUnderCheck } from './check-space.ts';
import { COUNT_BLOCKS, COUNTS_PER_BLOCK } from './geometry.ts';
import { COUNT_MAX, COUNT_METADATA, COUNT_SYSTEM, GROUP_AT } from './layout.ts';

/** In stored counts: it cannot be read. */
export const UNKNOWN = -1;

/** The count of each cluster of a group. @param stored what is counted now */
export function expectedCounts(
  space: SpaceUnderCheck,
  group: GroupUnderCheck,
  stored: Int32Array,
): Uint16Array {
  const expected = group.references();
  for (const i of group.system) expected[i] = COUNT_SYSTEM;
  for (const i of group.metadata.keys()) expected[i] = COUNT_METADATA;
  if (space.systemKnown) return expected;
  // a journal that is not known of may be there
  for (let i = 0; i < expected.length; i++) {
    if (stored[i] === COUNT_SYSTEM && expected[i] === 0) expected[i] = COUNT_SYSTEM;
  }
  return expected;
}

/** `low`: the cluster may be given away although it is in use. `high`: it is in use by less than is counted. */
export function judgeCount(stored: number, expected: number): 'right' | 'low' | 'high' {
  if (stored === expected) return 'right';
  if (expected === 0) return 'high';
  return expected > COUNT_MAX || stored > COUNT_MAX || stored < expected ? 'low' : 'high';
}

/** The counts of a group as they are. */
export function storedCounts(group: GroupUnderCheck, { counts }: GroupBlocks): Int32Array {
  const stored = new Int32Array(group.length).fill(UNKNOWN);
  for (const [block, { block: found }] of counts.entries()) {
    const [from, to] = countRange(group, block);
    for (let i = from; found && i < to; i++) stored[i] = countIn(found.view, i);
  }
  return stored;
}

/**
 * Clusters that a group has. The last one that is ready may have fewer than its device gives it: whoever attaches the
 * volume next takes the others in.
 */
export function lengthInUse(
  space: SpaceUnderCheck,
  group: GroupUnderCheck,
  { header }: GroupBlocks,
  stored: Int32Array,
): number {
  const claimed = header.block?.view.getUint32(GROUP_AT.clusters, true) ?? group.length;
  if (claimed < 2 || claimed >= group.length) return group.length;
  if (space.groups[group.device]?.at(-1) !== group) return group.length;
  let free = 0;
  for (let i = 0; i < group.length; i++) {
    if (i < claimed && stored[i] === 0) free++;
    if (i >= claimed && (stored[i] !== 0 || group.referencesTo(i) > 0 || group.metadata.has(i)))
      return group.length;
  }
  return free === header.block?.view.getUint32(GROUP_AT.freeClusters, true) ? claimed : group.length;
}

/** The clusters that one count block of a group counts, from where to where. */
export function countRange(group: GroupUnderCheck, block: number): [from: number, to: number] {
  const from = block * COUNTS_PER_BLOCK;
  return [
    Math.min(group.length, from),
    Math.min(group.length, block === COUNT_BLOCKS - 1 ? group.length : from + COUNTS_PER_BLOCK),
  ];
}
