/** Every file below a folder. */
import { joinPath } from '../device/file-path.ts';
import type { FileStatus } from '../device/file-system.ts';
import { fileStatus, listFolder } from '../device/files.ts';

/** Names looked at in one walk. */
const FILES_LIMIT = 1_000_000;

/** A file of a datastore. */
export interface FoundFile {
  readonly path: string;
  readonly status: FileStatus;
}

/** Every file below a folder, in the order of their names; folders themselves are left out. */
export async function* filesBelow(folder: string): AsyncGenerator<FoundFile> {
  const queue = [folder];
  for (let looked = 0; queue.length > 0; ) {
    const path = queue.shift() as string;
    for (const name of (await listFolder(path)).sort()) {
      const inside = joinPath(path, name);
      const status = await fileStatus(inside);
      if (status?.kind === 'folder') queue.push(inside);
      else if (status?.kind === 'file') yield { path: inside, status };
      if (++looked >= FILES_LIMIT) return;
    }
  }
}
