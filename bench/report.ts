/** The result as a table in Markdown, for people and for the README. */
import { type Machine, machineLine } from './machine.ts';
import type { Measurement, Side } from './measure.ts';
import type { Goal, Metric } from './work.ts';

export function tableOf(machine: Machine, measurements: readonly Measurement[]): string {
  const lines = [machineLine(machine), ''];
  let work = '';
  for (const found of measurements) {
    if (found.work !== work) {
      lines.push(...(work === '' ? [] : ['']), ...headOf(found));
      work = found.work;
    }
    lines.push(rowOf(found));
  }
  return `${lines.join('\n')}\n`;
}

function headOf({ work, title, ours, peer }: Measurement): string[] {
  const columns = [
    'size',
    ours.label,
    peer?.label ?? 'peer',
    'ratio (min–max)',
    'CPU ratio',
    'Node starts',
    'goal',
    '',
  ];
  return [
    `**${work}**: ${title}`,
    '',
    `| ${columns.join(' | ')} |`,
    `|${columns.map((_, i) => (i === 0 || i > 5 ? '---|' : '---:|')).join('')}`,
  ];
}

function rowOf(found: Measurement): string {
  const { metric, ours, peer, ratio, cpuRatio, bareStart, goal, reached } = found;
  const cells = [
    found.size,
    sideText(ours, metric),
    peer ? sideText(peer, metric) : '–',
    ratio ? `${digits(ratio.ofMedians)} (${digits(ratio.min)}–${digits(ratio.max)})` : '–',
    cpuRatio && metric === 'ms' ? digits(cpuRatio.ofMedians) : '–',
    `${Math.round(bareStart.summary.median)} ms`,
    goal ? goalText(goal) : '',
    reached === undefined ? '' : reached ? 'reached' : '**missed**',
  ];
  return `| ${cells.join(' | ')} |`;
}

function sideText({ summary, residentMiB, details }: Side, metric: Metric): string {
  const value = summary.median;
  if (metric === 'MiB') return `${Math.round(value)} MiB`;
  if (metric === '/GiB') {
    const parts = Object.entries(details ?? {}).map(([name, part]) => `${name} ${part}`);
    return `${value}${parts.length > 0 ? ` (${parts.join(', ')})` : ''}`;
  }
  if (metric === '/s') {
    const rate = value < 10_000 ? `${Math.round(value)} /s` : `${Math.round(value / 1000)} k/s`;
    if (!details) return rate;
    const { p50 = 0, p99 = 0, residentMiB: memory = 0 } = details;
    return `${rate}; p50 ${p50} µs, p99 ${p99} µs; ${memory} MiB`;
  }
  const time = value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
  return residentMiB > 0 ? `${time}, ${Math.round(residentMiB)} MiB` : time;
}

function digits(ratio: number): string {
  return ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(2);
}

function goalText({ kind, value }: Goal): string {
  switch (kind) {
    case 'ratio at most':
      return `≤ ${value.toFixed(1)}`;
    case 'ratio at least':
      return `≥ ${value.toFixed(1)}`;
    case 'ms beyond start':
      return `start + ${value} ms`;
    case 'times the start':
      return `≤ ${value} × start`;
    case 'MiB at most':
      return `≤ ${value} MiB`;
    case '/GiB at most':
      return `≤ ${value} a GiB`;
  }
}
