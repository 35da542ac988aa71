/** The counts and bitmaps of every group against what was found to be in use. */
import { shownBlock, type VolumeFindings } from './check-findings.ts';
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
import { BLOCKS_PER_CLUSTER, CLUSTER, firstBlockOf } from './geometry.ts';
import { COUNT_MAX, groupLayout, HEADER } from './layout.ts';
import { StrayBlocks } from './stray-blocks.ts';

/** Groups that are read at the same time. */
const GROUPS_AT_ONCE = 8;

/** Clusters side by side that the same is wrong with. */
interface Run {
  readonly verdict: 'low' | 'high' | 'endangered';
  readonly stored: number;
  readonly expected: number;
  readonly first: number;
  count: number;
}

export class CountCheck {
  readonly #space: SpaceUnderCheck;
  readonly #findings: VolumeFindings;
  readonly #stray: StrayBlocks;
  /** Groups that something is wrong with. */
  readonly wrong: GroupUnderCheck[] = [];

  constructor(space: SpaceUnderCheck, findings: VolumeFindings) {
    this.#space = space;
    this.#findings = findings;
    this.#stray = new StrayBlocks(space.view, findings);
  }

  /** Looks at every group. @param step called now and then. It may throw `CANCELLED` */
  async run(step: () => void): Promise<void> {
    const all = [...this.#space.all()];
    for (let at = 0; at < all.length; at += GROUPS_AT_ONCE) {
      step();
      const groups = all.slice(at, at + GROUPS_AT_ONCE);
      const blocks = await Promise.all(groups.map((group) => group.read(this.#space.view)));
      for (const [i, group] of groups.entries()) await this.#group(group, blocks[i] as GroupBlocks);
    }
  }

  async #group(group: GroupUnderCheck, blocks: GroupBlocks): Promise<void> {
    const { corruptions, leaks } = this.#findings;
    const suspects = this.#findings.suspects.length;
    const stored = storedCounts(group, blocks);
    const length = lengthInUse(this.#space, group, blocks, stored);
    this.#unreadable(group, blocks);
    for (const run of this.#runs(group, stored, length)) this.#tellRun(group, run);
    this.#twice(group);
    await this.#bitmaps(group);
    this.#header(group, blocks, stored, length);
    const found = this.#findings;
    if (found.corruptions > corruptions || found.leaks > leaks || found.suspects.length > suspects) {
      this.wrong.push(group);
    }
  }

  #unreadable(group: GroupUnderCheck, { header, counts }: GroupBlocks): void {
    const name = nameOf(group);
    if (header.problem !== undefined) {
      const where = shownBlock(group.header);
      this.#suspectBlocks(group, 0, 0, BLOCKS_PER_CLUSTER, (owners) =>
        this.#findings.corruption(
          `the header of ${name} (${where}): ${header.problem}; files in it: ${owners}`,
        ),
      );
    }
    for (const [block, { problem }] of counts.entries()) {
      const [from, to] = countRange(group, block);
      if (problem === undefined || from === to) continue;
      const where = shownBlock(group.header + 1 + block);
      this.#findings.suspect({
        kind: 'cluster',
        first: group.clusterAt(from),
        count: to - from,
        share: false,
        tell: (owners) =>
          this.#findings.corruption(`counts of ${name} (${where}): ${problem}; what they count: ${owners}`),
      });
    }
  }

  /** Runs of clusters whose counts are wrong, or that several files have of which one does not know it. */
  *#runs(group: GroupUnderCheck, stored: Int32Array, length: number): Generator<Run> {
    const all = expectedCounts(this.#space, group, stored);
    let run: Run | undefined;
    for (let i = 0; i < length; i++) {
      const count = stored[i] as number;
      const expected = all[i] as number;
      if (!run && count === expected && (expected < 2 || expected > COUNT_MAX)) continue;
      let verdict: 'right' | Run['verdict'] = count === UNKNOWN ? 'right' : judgeCount(count, expected);
      if (verdict !== 'low' && group.isEndangered(i)) verdict = 'endangered';
      const same =
        run?.verdict === verdict &&
        (verdict === 'high' || (run.stored === count && run.expected === expected));
      if (run && same && !(verdict === 'high' && (expected === 0) !== (run.expected === 0))) {
        run.count++;
        continue;
      }
      if (run) yield run;
      run = verdict === 'right' ? undefined : { verdict, stored: count, expected, first: i, count: 1 };
    }
    if (run) yield run;
  }

  #tellRun(group: GroupUnderCheck, { verdict, stored, expected, first, count }: Run): void {
    const cluster = group.clusterAt(first);
    const where = count === 1 ? `cluster ${cluster}` : `clusters ${cluster} to ${cluster + count - 1}`;
    if (verdict === 'high') {
      if (!this.#findings.contentLost) this.#findings.leak(highMessage(where, expected, count));
      return;
    }
    if (expected > COUNT_MAX && group.referencesTo(first) === 0) {
      const what = group.metadata.has(first) ? 'metadata' : 'a journal or a superblock';
      const message = `${where} of ${what}: counted as ${countText(stored)}, so that a file may get it`;
      this.#ownMetadata(group, first, message);
      return;
    }
    // an entry that leads to a wrong cluster leaves behind the one it led to
    this.#findings.doubtful = true;
    this.#findings.suspect({
      kind: 'cluster',
      first: cluster,
      count,
      share: expected > 1 && expected <= COUNT_MAX,
      tell: (owners) => this.#findings.corruption(lowMessage(where, verdict, stored, expected, owners)),
    });
  }

  /** Tells of a cluster that holds metadata, and of whom. */
  #ownMetadata(group: GroupUnderCheck, i: number, message: string): void {
    this.#suspectBlocks(group, i, 0, BLOCKS_PER_CLUSTER, (owners) =>
      this.#findings.corruption(`${message}; in it: ${owners}`),
    );
  }

  #twice(group: GroupUnderCheck): void {
    for (const i of group.metadata.keys()) {
      if (group.referencesTo(i) === 0) continue;
      this.#findings.contentLost = true;
      this.#findings.suspect({
        kind: 'cluster',
        first: group.clusterAt(i),
        count: 1,
        share: false,
        tell: (owners) =>
          this.#findings.unproven(
            `cluster ${group.clusterAt(i)} has metadata in it, and is also data of ${owners}`,
          ),
      });
    }
  }

  async #bitmaps(group: GroupUnderCheck): Promise<void> {
    for (const [i, { stored, found }] of group.metadata) {
      const first = firstBlockOf(group.clusterAt(i));
      if (!stored) {
        if (i === 0) continue; // its header was told of
        this.#ownMetadata(
          group,
          i,
          `the bitmap of metadata cluster ${group.clusterAt(i)} (${shownBlock(first)}) is damaged`,
        );
        continue;
      }
      for (const [from, to] of bitRuns(found, stored)) {
        this.#suspectBlocks(group, i, from, to - from, (owners) =>
          this.#findings.corruption(
            `${blocksText(first + from, to - from)} of metadata may be given away although in use: ${owners}`,
          ),
        );
      }
      if (this.#findings.contentLost) continue;
      for (const [from, to] of bitRuns(stored, found)) await this.#stray.tell(first + from, to - from);
    }
  }

  #suspectBlocks(
    group: GroupUnderCheck,
    i: number,
    from: number,
    count: number,
    tell: (owners: string) => void,
  ): void {
    const first = firstBlockOf(group.clusterAt(i)) + from;
    this.#findings.suspect({ kind: 'block', first, count, share: false, tell });
  }

  #header(group: GroupUnderCheck, { header, counts }: GroupBlocks, stored: Int32Array, length: number): void {
    if (!header.block) return;
    const found = groupLayout.decode(header.block.bytes, HEADER);
    const name = nameOf(group);
    const tell = (what: string, claimed: number, is: number): void => {
      if (claimed === is) return;
      const message = `${name} claims ${claimed} ${what}, and has ${is}; no file is touched`;
      if (claimed > is || !what.startsWith('free')) this.#findings.corruption(message);
      else this.#findings.leak(message);
    };
    if (found.index !== group.index) {
      this.#findings.corruption(`${name} claims to be group ${found.index}; no file is touched`);
    }
    if (found.delegate > this.#space.description.slots) {
      this.#findings.corruption(`${name} is delegated to slot ${found.delegate - 1}; no file is touched`);
    }
    tell('clusters', found.clusters, length);
    if (counts.every(({ block }, k) => block || countRange(group, k)[0] === countRange(group, k)[1])) {
      let free = 0;
      for (let i = 0; i < length; i++) if (stored[i] === 0) free++;
      tell('free clusters', found.freeClusters, free);
    }
    const bitmaps = [...group.metadata.values()].map((each) => each.stored);
    if (bitmaps.every((bitmap) => bitmap !== undefined)) {
      const used = group.markedBlocks;
      tell('free blocks', found.freeBlocks, bitmaps.length * BLOCKS_PER_CLUSTER - used);
    }
  }
}

function nameOf({ device, index }: GroupUnderCheck): string {
  return device === 0 ? `group ${index}` : `group ${index} of device ${device}`;
}

function highMessage(where: string, expected: number, count: number): string {
  if (expected > 0) return `${where}: counted more often than files have it`;
  return `${where}: ${(count * CLUSTER) / 2 ** 20} MiB are counted as used, and no file has them`;
}

function lowMessage(
  where: string,
  verdict: 'low' | 'endangered',
  stored: number,
  expected: number,
  owners: string,
): string {
  if (verdict === 'endangered') {
    return `${where}: ${expected} files have it, and one of them may write to it as if it were alone: ${owners}`;
  }
  return `${where}: counted as ${countText(stored)}, and ${expected === 1 ? 'one entry leads' : `${expected} entries lead`} to it: ${owners}`;
}

function countText(count: number): string {
  if (count === 0) return 'free';
  if (count > COUNT_MAX) return count === 0xffff ? 'metadata' : 'nothing that can be';
  return `used ${count === 1 ? 'once' : `${count} times`}`;
}

function blocksText(first: number, count: number): string {
  return count === 1 ? shownBlock(first) : `${count} blocks from ${shownBlock(first)} on`;
}

/** Runs of bits that are set in one bitmap and not in the other. */
function bitRuns(set: Uint8Array, unset: Uint8Array): [from: number, to: number][] {
  const runs: [number, number][] = [];
  for (let bit = 0; bit < set.length * 8; bit++) {
    const byte = (set[bit >> 3] as number) & ~(unset[bit >> 3] as number);
    if (((byte >> (bit & 7)) & 1) === 0) continue;
    const last = runs.at(-1);
    if (last && last[1] === bit) last[1] = bit + 1;
    else runs.push([bit, bit + 1]);
  }
  return runs;
}
