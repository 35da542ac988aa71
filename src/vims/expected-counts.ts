/** What the counts and bitmaps of a group must be, by what a walk over all files found. */
import { countBlockOf, countIn, type GroupBlocks, type GroupUnderCheck } from './check-group.ts';
import type { SpaceUnderCheck } from './check-space.ts';
import { COUNT_BLOCKS, COUNTS_PER_BLOCK } from './geometry.ts';
import { COUNT_MAX, COUNT_METADATA, COUNT_SYSTEM, GROUP_AT } from './layout.ts';

/** The count of a cluster. @param stored what is counted now, if that can be read */
export function expectedCount(
  space: SpaceUnderCheck,
  group: GroupUnderCheck,
  i: number,
  stored: number | undefined,
): number {
  if (group.metadata.has(i)) return COUNT_METADATA;
  if (group.system.has(i)) return COUNT_SYSTEM;
  const references = group.references(i);
  // a journal that is not known of may be there
  if (stored === COUNT_SYSTEM && references === 0 && !space.systemKnown) return COUNT_SYSTEM;
  return references;
}

/** `low`: the cluster may be given away although it is in use. `high`: it is in use by less than is counted. */
export function judgeCount(stored: number, expected: number): 'right' | 'low' | 'high' {
  if (stored === expected) return 'right';
  if (expected === 0) return 'high';
  return expected > COUNT_MAX || stored > COUNT_MAX || stored < expected ? 'low' : 'high';
}

/** The counts of a group as they are; undefined where they cannot be read. */
export function storedCounts(group: GroupUnderCheck, { counts }: GroupBlocks): (number | undefined)[] {
  const views = counts.map(({ block }) => block?.view);
  return Array.from({ length: group.length }, (_, i) => {
    const view = views[countBlockOf(i)];
    return view ? countIn(view, i) : undefined;
  });
}

/**
 * Clusters that a group has. The last one that is ready may have fewer than its device gives it: whoever attaches the
 * volume next takes the others in.
 */
export function lengthInUse(
  space: SpaceUnderCheck,
  group: GroupUnderCheck,
  { header }: GroupBlocks,
  stored: readonly (number | undefined)[],
): number {
  const claimed = header.block?.view.getUint32(GROUP_AT.clusters, true) ?? group.length;
  if (claimed < 2 || claimed >= group.length) return group.length;
  if (space.groups[group.device]?.at(-1) !== group) return group.length;
  let free = 0;
  for (let i = 0; i < group.length; i++) {
    if (i < claimed && stored[i] === 0) free++;
    if (i >= claimed && (stored[i] !== 0 || group.references(i) > 0 || group.metadata.has(i)))
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
