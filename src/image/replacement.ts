/** A file whose name a new image takes: not while someone uses it, and not when other disks need it. */
import { VimgError } from '../base/errors.ts';
import type { DiskFile } from '../device/file-system.ts';
import { fileStatus, openFile } from '../device/files.ts';
import { claimedFormats, readHead } from './probe.ts';
import type { FormatRegistry } from './registry.ts';

/**
 * Locks the file that is about to be replaced, as its writer would. The caller closes it when the new one has the name.
 *
 * @returns nothing when there is none
 * @throws VimgError `LOCKED` when someone uses it, `EXISTS` when it is sealed, has snapshots, or other disks are known
 *   to stand on it
 */
export async function lockReplaced(path: string, formats: FormatRegistry): Promise<DiskFile | undefined> {
  if ((await fileStatus(path)) === undefined) return undefined;
  const file = await openFile(path, { lock: 'write' });
  try {
    await refuseNeeded(file, path, formats);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function refuseNeeded(file: DiskFile, path: string, formats: FormatRegistry): Promise<void> {
  const [claimed, second] = claimedFormats(await readHead(file), file.size, formats);
  const driver = formats.list().find(({ name }) => name === claimed);
  if (second !== undefined || !driver?.lifecycle) return;
  const reason = await driver.lifecycle.neededFor(path);
  if (reason === undefined) return;
  throw new VimgError('EXISTS', `The file is there, and needed: ${reason}`, {
    op: 'replace',
    path,
    hint: 'choose another name; or delete the disk first, with all that stands on it',
  });
}
