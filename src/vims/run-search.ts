/**
 * Which free clusters somebody is given who wants some that follow each other.
 *
 * Who wants a segment gets a whole one while there is one in any group, or another group can be made ready. Who wants
 * less gets the next part of a segment that such have in common. When there are no whole segments any more, what is
 * left of others is given away, the longest run first.
 */
import { SEGMENT } from './free-map.ts';
import type { Group, Run } from './group.ts';

/** The groups of a volume. */
export interface Groups {
  /** All that are ready, from the one that `turnTo` named on and round. */
  order(): Iterable<readonly [device: number, index: number]>;
  turnTo(group: Group): void;
  group(device: number, index: number): Promise<Group>;
  /** Makes another one ready, if there is one. */
  makeReady(): Promise<Group | undefined>;
  /** Clusters kept for metadata. */
  kept(): number;
}

export class RunSearch {
  readonly #groups: Groups;
  /** Where the next part of the segment begins that small runs have in common. */
  #small: { group: Group; cluster: number } | undefined;

  constructor(groups: Groups) {
    this.#groups = groups;
  }

  /** Takes a run of `want` clusters, of a segment at most; a shorter one when there is none. One search at a time. */
  async take(want: number): Promise<Run | undefined> {
    return this.#takeSmall(want) ?? (await this.#takeSegment(want)) ?? this.#takeLongest(want);
  }

  #takeSmall(want: number): Run | undefined {
    if (want >= SEGMENT || !this.#small) return undefined;
    const { group, cluster } = this.#small;
    const run = group.free > this.#groups.kept() + want ? group.runAround(cluster, 0, want) : undefined;
    if (!run || run.length < want) return undefined;
    return this.#taken(group, run, want);
  }

  #taken(group: Group, run: Run, want: number): Run {
    const taken = { cluster: run.cluster, length: Math.min(run.length, want) };
    group.take(taken);
    this.#groups.turnTo(group);
    if (want < SEGMENT) this.#small = { group, cluster: taken.cluster + taken.length };
    return taken;
  }

  async #takeSegment(want: number): Promise<Run | undefined> {
    const enough = this.#groups.kept() + want;
    let free = 0;
    let found: Group | undefined;
    for (const [device, index] of this.#groups.order()) {
      const group = await this.#groups.group(device, index);
      free += group.free;
      if (group.hasSegment) found ??= group;
      if (found && free > enough) break;
    }
    const group = free > enough && found ? found : await this.#groups.makeReady();
    const run = group?.findSegment();
    return group && run && this.#taken(group, run, want);
  }

  async #takeLongest(want: number): Promise<Run | undefined> {
    const kept = this.#groups.kept();
    let free = 0;
    let length = 0;
    let found: Group | undefined;
    for (const [device, index] of this.#groups.order()) {
      const group = await this.#groups.group(device, index);
      free += group.free;
      const run = length < want ? group.findRun(want, length) : undefined;
      if (run) [length, found] = [run.length, group];
      if (length >= want && free > kept + want) break;
    }
    const most = Math.min(free - kept, want);
    if (!found || most <= 0) return undefined;
    const run = found.findRun(most);
    return run ? this.#taken(found, run, want) : this.#takeLongest(want); // somebody else was faster
  }

  /** They came into no use: who comes next gets them. */
  givenBack({ cluster, length }: Run): void {
    if (this.#small && cluster + length === this.#small.cluster) this.#small = { ...this.#small, cluster };
  }
}
