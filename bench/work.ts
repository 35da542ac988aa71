/**
 * What a benchmark is: a work, done by us and by a peer in turn, at three sizes.
 *
 * A ratio counts, a time does not: both sides run on the same machine, minutes apart at the most, on the same data,
 * with caches in the same state. A time includes the start of the process.
 */
import type { Workshop } from './workshop.ts';

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
}

/** One side of a comparison. */
export interface Contestant {
  readonly label: string;
  readonly command: Command;
  /** Before each run, not timed: fresh copies of what the run changes. */
  readonly prepare?: () => Promise<void>;
  /** After each run, not timed: what it wrote goes. */
  readonly cleanUp?: () => Promise<void>;
  /** Reads the measure from the program's output; for works whose metric is a rate or a density. */
  readonly readRate?: (stdout: string) => number;
  /** What else is worth a look: percentiles of latency in microseconds, memory in MiB, parts of a density. */
  readonly readDetails?: (stdout: string) => Readonly<Record<string, number>>;
}

/** A work made ready at one size. */
export interface Bout {
  readonly ours: Contestant;
  /** Absent where nobody else does this, or the peer is not installed. */
  readonly peer?: Contestant | undefined;
  /** After the last run: removes sources that are too large to keep. */
  readonly finish?: () => Promise<void>;
}

/** `ms`: time of the process. `MiB`: its peak resident memory. `/s`, `/GiB`: a rate, a density that it prints. */
export type Metric = 'ms' | 'MiB' | '/s' | '/GiB';

/** What is to be reached. */
export type Goal =
  | { readonly kind: 'ratio at most'; readonly value: number }
  | { readonly kind: 'ratio at least'; readonly value: number }
  /** Milliseconds beyond the bare start of Node. */
  | { readonly kind: 'ms beyond start'; readonly value: number }
  /** Times the bare start of Node. */
  | { readonly kind: 'times the start'; readonly value: number }
  | { readonly kind: 'MiB at most'; readonly value: number }
  | { readonly kind: '/GiB at most'; readonly value: number };

export interface Size {
  /** 1, 10 or 100 units of work, so that growth is seen. */
  readonly units: number;
  readonly label: string;
  /** Set where the goal is stated for this size. */
  readonly goal?: Goal | undefined;
}

export interface Work {
  /** As `--only` takes it. */
  readonly name: string;
  readonly title: string;
  readonly metric: Metric;
  /** From small to large. */
  readonly sizes: readonly Size[];
  /** Times as many pairs as asked for, for what takes only milliseconds; `once` for what does not vary. */
  readonly pairs?: number | 'once';
  /** @returns undefined when this cannot be measured here */
  prepare(shop: Workshop, size: Size): Promise<Bout | undefined>;
}

export const KiB = 1024;
export const MiB: number = 1024 * KiB;
export const GiB: number = 1024 * MiB;
export const TiB: number = 1024 * GiB;

/** Three sizes of 1, 10 and 100 units; the goal is stated for the largest, or for all of them. */
export function threeSizes(
  label: (units: number) => string,
  goal: Goal | undefined,
  goalFor: 'largest' | 'all' = 'largest',
): Size[] {
  return [1, 10, 100].map((units) => ({
    units,
    label: label(units),
    goal: goalFor === 'all' || units === 100 ? goal : undefined,
  }));
}

/** Bytes in the largest unit that leaves a short number: `41 MiB`, `4 GiB`. */
export function sizeLabel(bytes: number): string {
  for (const [unit, name] of [
    [TiB, 'TiB'],
    [GiB, 'GiB'],
    [MiB, 'MiB'],
  ] as const) {
    if (bytes >= unit) return `${Number((bytes / unit).toFixed(1))} ${name}`;
  }
  return `${Math.round(bytes / KiB)} KiB`;
}
