/**
 * The check of a VVD file, and its repair. Nothing is changed unless a repair is asked for; then only what can be
 * proven is, and what is overwritten is saved first.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CheckFinding, CheckReport } from '../../src/image/check-report.ts';
import type { CheckOptions } from '../../src/image/format-driver.ts';
import { type Examination, examine } from './check-examination.ts';
import { refusal, repairVvd } from './repair.ts';

/**
 * Checks a VVD file, and repairs what can be proven if asked to.
 *
 * Findings are of these kinds: `header-copy header-contradiction header-text file-truncated attributes
 * journal-unreadable journal-transaction journal-ahead space-list space-list-used directory-page directory-unlisted directory-entry
 * table-page entry-kind entry-contradiction entry-behind-end block-misaligned block-outside block-past-end
 * block-length block-shared block-overlaps-metadata table-page-shared checksum-page data-checksum compressed-data`,
 * and `space-leaked`, the only one that is a leak.
 *
 * @param options with `repair` the file must be writable, and `undoPath` must name a file that does not exist
 * @throws VimgError `INVALID_FORMAT` for a file that is no VVD image; `UNSUPPORTED` for features of a later version;
 *   `USAGE`, `EXISTS` for the undo file; `READ_ONLY`; `CANCELLED`; `IO`, `NO_SPACE` from a repair
 */
export async function checkVvd(file: BlockDevice, options: CheckOptions = {}): Promise<CheckReport> {
  const { repair, undoPath } = options;
  if (repair !== undefined && undoPath === undefined) {
    throw new VimgError('USAGE', 'A repair needs the name of an undo file', { path: file.name });
  }
  if (repair !== undefined && file.readOnly) {
    throw new VimgError('READ_ONLY', 'A repair needs a file that can be written', { path: file.name });
  }
  const before = await examine(file, options);
  const { corruptions, leaks } = before.findings;
  if (repair === undefined || undoPath === undefined || corruptions + leaks === 0) return report(before);
  const changed = await repairVvd(file, before, { repair, undoPath });
  const after = changed ? await examine(file, options) : before;
  return repairedReport(before, after, repair);
}

function report(found: Examination): CheckReport {
  const { findings, counters } = found;
  return {
    format: 'vvd',
    findings: findings.listed,
    corruptions: findings.corruptions,
    leaks: findings.leaks,
    corruptionsFixed: 0,
    leaksFixed: 0,
    checkErrors: 0, // what cannot be read is damage, and is found
    ...counters,
  };
}

/** What a repair made go away, and what is left, with the reason. */
function repairedReport(before: Examination, after: Examination, repair: 'leaks' | 'all'): CheckReport {
  const key = (finding: CheckFinding): string => `${finding.kind} ${finding.fileOffset}`;
  const left = new Set(after.findings.listed.map(key));
  const repaired = before.findings.listed
    .filter((finding) => !left.has(key(finding)))
    .map((finding) => ({ ...finding, repaired: true }));
  const refused = after.findings.listed.map((finding) => {
    const asked = repair === 'all' || finding.severity === 'leak';
    const why = asked ? refusal(finding) : 'only leaks were to be repaired';
    return { ...finding, message: `${finding.message} (not repaired: ${why})`, repaired: false };
  });
  return {
    ...report(after),
    findings: [...repaired, ...refused],
    corruptionsFixed: Math.max(0, before.findings.corruptions - after.findings.corruptions),
    leaksFixed: Math.max(0, before.findings.leaks - after.findings.leaks),
  };
}
