/** Checking what lies in a datastore: every disk by the check of its format. */
import { isVimgError } from '../base/errors.ts';
import { openFile } from '../device/files.ts';
import { probeFormat } from '../image/probe.ts';
import type { FormatRegistry } from '../image/registry.ts';
import { filesBelow } from './files-below.ts';

/** What became of one disk. */
export interface CheckedDisk {
  readonly path: string;
  /** `in use`: someone writes it, and it was not looked at. */
  readonly state: 'sound' | 'damaged' | 'leaks' | 'in use' | 'error';
  readonly findings: readonly string[];
}

/** Checks each disk below `folder` that has a format with something to check; others are passed over. */
export async function* checkDisks(
  folder: string,
  formats: FormatRegistry,
  signal: AbortSignal,
): AsyncGenerator<CheckedDisk> {
  for await (const { path } of filesBelow(folder)) {
    const checked = await checkDisk(path, formats, signal);
    if (checked) yield checked;
  }
}

async function checkDisk(
  path: string,
  formats: FormatRegistry,
  signal: AbortSignal,
): Promise<CheckedDisk | undefined> {
  try {
    const file = await openFile(path, { readOnly: true, lock: 'read' });
    try {
      const { driver } = await probeFormat(file, formats);
      if (!driver.check) return undefined;
      const report = await driver.check(file, { signal });
      const findings = report.findings.map((finding) => finding.message);
      if (report.checkErrors > 0) return { path, state: 'error', findings };
      if (report.corruptions > 0) return { path, state: 'damaged', findings };
      return { path, state: report.leaks > 0 ? 'leaks' : 'sound', findings };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!isVimgError(error) || error.code === 'CANCELLED') throw error;
    if (error.code === 'NOT_FOUND') return undefined; // removed meanwhile
    return { path, state: error.code === 'LOCKED' ? 'in use' : 'error', findings: [error.message] };
  }
}
