/**
 * Measures one bout: ours, the peer, the bare start of Node, ours, the peer, …, so that whatever else the machine
 * does meets all of them. One run of each before the first that counts fills the caches.
 */
import { type ProcessRun, runProcess } from './process-run.ts';
import { type Ratio, ratioOf, type Summary, summarize } from './statistics.ts';
import type { Bout, Contestant, Goal, Metric, Size, Work } from './work.ts';
import type { Workshop } from './workshop.ts';

export interface Measurement {
  readonly work: string;
  readonly title: string;
  readonly size: string;
  readonly units: number;
  readonly metric: Metric;
  readonly ours: Side;
  readonly peer?: Side | undefined;
  readonly ratio?: Ratio | undefined;
  /** Of processor time. */
  readonly cpuRatio?: Ratio | undefined;
  /** `node -e 0`, in milliseconds. */
  readonly bareStart: Side;
  readonly goal?: Goal | undefined;
  readonly reached?: boolean | undefined;
}

export interface Side {
  readonly label: string;
  readonly summary: Summary;
  /** Processor time in milliseconds. */
  readonly cpu: Summary;
  /** The largest resident memory of all runs. */
  readonly residentMiB: number;
  /** The median of each detail that the runs printed. */
  readonly details?: Readonly<Record<string, number>>;
}

const BARE_START: Contestant = {
  label: 'node',
  command: { program: process.execPath, args: ['-e', '0'] },
};

export async function measureBout(
  shop: Workshop,
  work: Work,
  size: Size,
  bout: Bout,
  pairs: number,
): Promise<Measurement> {
  const sides = [bout.ours, ...(bout.peer ? [bout.peer] : []), BARE_START];
  const runs = sides.map((): ProcessRun[] => []);
  const warmUps = pairs > 1 ? 1 : 0;
  for (let round = 0; round < warmUps + pairs; round++) {
    for (const [i, side] of sides.entries()) {
      const run = await runOnce(shop, side);
      if (round >= warmUps) runs[i]?.push(run);
    }
  }
  const [ours, ...others] = sides.map((side, i) => sideOf(side, runs[i] ?? [], work.metric));
  const peer = bout.peer ? others[0] : undefined;
  const bareStart = sideOf(BARE_START, runs.at(-1) ?? [], 'ms');
  const ratio = ours && peer && ratioOf(ours.summary, peer.summary);
  const cpuRatio = ours && peer && ratioOf(ours.cpu, peer.cpu);
  const found = { ours: ours as Side, peer, ratio, cpuRatio, bareStart };
  return {
    work: work.name,
    title: work.title,
    size: size.label,
    units: size.units,
    metric: work.metric,
    ...found,
    goal: size.goal,
    reached: size.goal && isReached(size.goal, found),
  };
}

async function runOnce(shop: Workshop, side: Contestant): Promise<ProcessRun> {
  await side.prepare?.();
  await shop.settle();
  try {
    return await runProcess(side.command);
  } finally {
    await side.cleanUp?.();
  }
}

function sideOf(side: Contestant, runs: readonly ProcessRun[], metric: Metric): Side {
  const values = runs.map((run) => {
    if (metric === 'ms') return run.milliseconds;
    return metric === 'MiB' ? run.residentMiB : (side.readRate?.(run.stdout) ?? Number.NaN);
  });
  return {
    label: side.label,
    summary: summarize(values),
    cpu: summarize(runs.map((run) => run.cpuMilliseconds)),
    residentMiB: Math.max(...runs.map((run) => run.residentMiB)),
    ...(side.readDetails
      ? { details: medians(runs.map((run) => side.readDetails?.(run.stdout) ?? {})) }
      : {}),
  };
}

function medians(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = Object.keys(all[0] ?? {});
  return Object.fromEntries(
    names.map((name) => [name, summarize(all.map((each) => each[name] ?? 0)).median]),
  );
}

/** @returns undefined when what the goal compares with is missing */
function isReached(
  goal: Goal,
  { ours, ratio, bareStart }: Pick<Measurement, 'ours' | 'ratio' | 'bareStart'>,
): boolean | undefined {
  const value = ours.summary.median;
  switch (goal.kind) {
    case 'ratio at most':
      return ratio && ratio.ofMedians <= goal.value;
    case 'ratio at least':
      return ratio && ratio.ofMedians >= goal.value;
    case 'ms beyond start':
      return value - bareStart.summary.median <= goal.value;
    case 'times the start':
      return value / bareStart.summary.median <= goal.value;
    case 'MiB at most':
    case '/GiB at most':
      return value <= goal.value;
  }
}
