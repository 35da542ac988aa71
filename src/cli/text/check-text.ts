/** `check`, for people and for scripts, in the words and keys of qemu-img; findings are added under their own key. */
import type { CheckFinding, CheckReport } from '../../image/check-report.ts';
import { printable } from './printable.ts';

/** A line for a finding; findings go to stderr. */
export function findingLine(finding: CheckFinding): string {
  const severity = finding.severity === 'leak' ? 'Leaked' : 'ERROR';
  const where = finding.fileOffset === undefined ? '' : ` (file offset ${finding.fileOffset})`;
  const guest = finding.guestRange;
  const touches = guest === undefined ? '' : `; guest range ${guest.offset}+${guest.length}`;
  const done = finding.repaired ? ' (repaired)' : '';
  return `${severity}: ${printable(finding.message)}${where}${touches}${done}`;
}

export function checkText(report: CheckReport): string {
  const lines: string[] = [];
  if (report.corruptionsFixed > 0 || report.leaksFixed > 0) {
    lines.push(
      'The following inconsistencies were found and repaired:',
      '',
      `    ${report.leaksFixed} leaked clusters`,
      `    ${report.corruptionsFixed} corruptions`,
      '',
      'Double checking the fixed image now...',
    );
  }
  lines.push(...verdictLines(report));
  if (report.totalClusters > 0 && report.allocatedClusters > 0) lines.push(statisticsLine(report));
  if (report.imageEndOffset > 0) lines.push(`Image end offset: ${report.imageEndOffset}`);
  return `${lines.join('\n')}\n`;
}

function verdictLines(report: CheckReport): string[] {
  const { corruptions, leaks, checkErrors } = report;
  if (corruptions === 0 && leaks === 0 && checkErrors === 0) return ['No errors were found on the image.'];
  const lines: string[] = [];
  if (corruptions > 0) {
    lines.push(
      '',
      `${corruptions} errors were found on the image.`,
      'Data may be corrupted, or further writes to the image may corrupt it.',
    );
  }
  if (leaks > 0) {
    lines.push(
      '',
      `${leaks} leaked clusters were found on the image.`,
      'This means waste of disk space, but no harm to data.',
    );
  }
  if (checkErrors > 0) lines.push('', `${checkErrors} internal errors have occurred during the check.`);
  return lines;
}

function statisticsLine(report: CheckReport): string {
  const {
    allocatedClusters: allocated,
    totalClusters: total,
    fragmentedClusters,
    compressedClusters,
  } = report;
  return (
    `${allocated}/${total} = ${percent(allocated, total)}% allocated, ` +
    `${percent(fragmentedClusters, allocated)}% fragmented, ` +
    `${percent(compressedClusters, allocated)}% compressed clusters`
  );
}

/** Two digits, a tie to the even one, as C's printf rounds. */
function percent(part: number, whole: number): string {
  const hundredths = (part * 10_000) / whole;
  const down = Math.floor(hundredths);
  const up = hundredths - down > 0.5 || (hundredths - down === 0.5 && down % 2 === 1);
  return ((down + (up ? 1 : 0)) / 100).toFixed(2);
}

/** Numbers that are zero are left out, as qemu-img leaves them out. */
export function checkJson(report: CheckReport, filename: string): Record<string, unknown> {
  const some = (key: string, value: number): Record<string, number> => (value === 0 ? {} : { [key]: value });
  return {
    ...some('image-end-offset', report.imageEndOffset),
    ...some('total-clusters', report.totalClusters),
    ...some('corruptions', report.corruptions),
    'check-errors': report.checkErrors,
    ...some('leaks', report.leaks),
    ...some('corruptions-fixed', report.corruptionsFixed),
    ...some('leaks-fixed', report.leaksFixed),
    ...some('fragmented-clusters', report.fragmentedClusters),
    ...some('compressed-clusters', report.compressedClusters),
    ...some('allocated-clusters', report.allocatedClusters),
    filename,
    format: report.format,
    ...(report.findings.length === 0 ? {} : { findings: report.findings }),
  };
}
