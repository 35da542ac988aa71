/** Looking at the header of a file that may be anything, and at the VVD files of a folder. */
import { VimgError } from '../../src/base/errors.ts';
import { joinPath } from '../../src/device/file-path.ts';
import { fileStatus, listFolder, openFile } from '../../src/device/files.ts';
import { isFlatPath } from '../../src/device/mounts.ts';
import { readHeader } from './header.ts';
import type { Header } from './layout.ts';

/** The header of a file that may be anything, or of an export: undefined when it is no whole VVD image. */
export async function peekHeader(path: string): Promise<Header | undefined> {
  const kind = (await fileStatus(path))?.kind;
  if (kind !== 'file' && !(kind === 'device' && isFlatPath(path))) return undefined;
  const file = await openFile(path, { readOnly: true });
  try {
    return await readHeader(file);
  } catch (error) {
    if (error instanceof VimgError && error.code !== 'IO') return undefined;
    throw error;
  } finally {
    await file.close();
  }
}

/** A VVD file in a folder. */
export interface FolderEntry {
  readonly path: string;
  readonly header: Header;
}

/** Files looked at in one folder before the rest is left out. */
const FOLDER_LIMIT = 10_000;

/** The VVD files of a folder, by their content and the ending `.vvd`. */
export async function vvdFilesIn(folder: string): Promise<FolderEntry[]> {
  const entries: FolderEntry[] = [];
  for (const name of (await listFolder(folder)).slice(0, FOLDER_LIMIT)) {
    if (!name.endsWith('.vvd') || name.startsWith('.')) continue;
    const path = joinPath(folder, name);
    const header = await peekHeader(path);
    if (header) entries.push({ path, header });
  }
  return entries;
}
