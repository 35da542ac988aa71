/** The names of files that belong together: a disk, the layers of its snapshots, and what is being made. */
import { VimgError } from '../../src/base/errors.ts';
import { folderOf, joinPath, nameOf } from '../../src/device/file-path.ts';

const ENDING = '.vvd';
const NAME_LIMIT = 120;

/** `disk.vvd` and `before` give `disk@before.vvd`. */
export function layerFileName(diskName: string, snapshot: string): string {
  const stem = diskName.endsWith(ENDING) ? diskName.slice(0, -ENDING.length) : diskName;
  return `${stem}@${snapshot}${ENDING}`;
}

/** The new top layer, until it takes the disk's name. */
export function stagedFileName(diskName: string, snapshot: string): string {
  return `.${layerFileName(diskName, snapshot)}.new`;
}

/** @throws VimgError `USAGE` for a name that cannot be part of a file name */
export function checkSnapshotName(name: string): void {
  if (
    name === '' ||
    name.length > NAME_LIMIT ||
    /[/@\u0000-\u001f\u007f]/.test(name) ||
    name.startsWith('.')
  ) {
    throw new VimgError('USAGE', `'${name}' cannot be the name of a snapshot`, {
      hint: `a name has up to ${NAME_LIMIT} characters, no /, no @, and does not start with a dot`,
    });
  }
}

/** The layer file of a snapshot, beside the disk. */
export function layerPathOf(diskPath: string, snapshot: string): string {
  return joinPath(folderOf(diskPath), layerFileName(nameOf(diskPath), snapshot));
}

export function stagedPathOf(diskPath: string, snapshot: string): string {
  return joinPath(folderOf(diskPath), stagedFileName(nameOf(diskPath), snapshot));
}
