/** How a file behind a disk is shown: as the user named the disk, relative or absolute. */
import { isAbsolute, relative } from 'node:path';

/** `path` as seen from the working folder when `named` was relative, else as it is. */
export function shownPath(path: string, named: string): string {
  if (isAbsolute(named) || !isAbsolute(path)) return path;
  return relative(process.cwd(), path);
}
