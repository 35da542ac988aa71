/** What several runs of one thing come to. */

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** In the order of the runs. */
  readonly values: readonly number[];
}

export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  return { median: medianOf(sorted), min: sorted[0] ?? 0, max: sorted.at(-1) ?? 0, values };
}

/** The ratio of the medians, and the smallest and largest ratio of the runs that were made next to each other. */
export interface Ratio {
  readonly ofMedians: number;
  readonly min: number;
  readonly max: number;
}

export function ratioOf(ours: Summary, peer: Summary): Ratio {
  const pairs = ours.values.map((value, i) => value / (peer.values[i] as number));
  return { ofMedians: ours.median / peer.median, min: Math.min(...pairs), max: Math.max(...pairs) };
}

function medianOf(sorted: readonly number[]): number {
  const middle = sorted.length >>> 1;
  if (sorted.length % 2 === 1) return sorted[middle] as number;
  return ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
