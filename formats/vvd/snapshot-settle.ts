/**
 * What a crash in the middle of a snapshot leaves, and how it ends.
 *
 * The file carries a snapshot intent: it is sealed, knows the disk's name and the snapshot's. While the disk's name
 * still means this file, the snapshot did not happen, and is undone; unless it belongs to a group whose record
 * exists: then all of the group happened, and this one is completed. When the disk's name means another file, the
 * snapshot did happen, and only the intent is left to be dropped.
 */
import { fromSystemError, VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { folderOf, joinPath, nameOf, resolvePath } from '../../src/device/file-path.ts';
import {
  fileExists,
  hostPathOf,
  isSameFile,
  linkFile,
  realPath,
  removeFile,
  renameFile,
  syncFolder,
} from '../../src/device/files.ts';
import { layerFileName, stagedFileName } from './file-names.ts';
import { headerText, readHeader, setHeaderText, writeHeader } from './header.ts';
import { peekHeader } from './header-peek.ts';
import { type Header, INCOMPATIBLE_SEALED, INTENT_DELETE, INTENT_NONE, INTENT_SNAPSHOT } from './layout.ts';

/** @returns true when the path means another file now */
export async function settleSnapshot(file: BlockDevice, given: string): Promise<boolean> {
  const header = await intentHeader(file);
  if (!header) return false;
  const path = await realPath(given); // what belongs to a disk lies beside it, not beside a link
  if (header.intent === INTENT_DELETE) {
    // merged over, and renamed to the disk's name already: it is the disk
    if (headerText(header.intentName, header.intentNameLength) === nameOf(path))
      await finishPromotion(file, header);
    return false;
  }
  const folder = folderOf(path);
  const diskName = headerText(header.intentName, header.intentNameLength);
  const snapshot = headerText(header.snapshotName, header.snapshotNameLength);
  for (const name of [diskName, snapshot]) {
    if (name === '' || name !== nameOf(name) || name.includes('\0')) {
      throw new VimgError('CORRUPT', 'The snapshot intent names no file beside this one', { path });
    }
  }
  const disk = joinPath(folder, diskName);
  try {
    if (!(await isSameFile(disk, path))) {
      await dropIntent(file, header);
      return false;
    }
    const record = headerText(header.groupPath, header.groupPathLength);
    if (await isGroupRecord(folder, record)) {
      await completeSnapshot(file, header, disk, snapshot);
      return nameOf(path) === diskName;
    }
    await undoSnapshot(file, header, disk, snapshot);
    return nameOf(path) !== diskName;
  } catch (error) {
    throw fromSystemError(error, { op: 'settle an interrupted snapshot', path });
  }
}

/** The header, when it carries a snapshot intent. What is no whole VVD file is left to the open that follows. */
async function intentHeader(file: BlockDevice): Promise<Header | undefined> {
  try {
    const header = await readHeader(file);
    const { intent } = header;
    return intent === INTENT_SNAPSHOT || intent === INTENT_DELETE ? header : undefined;
  } catch (error) {
    if (error instanceof VimgError && error.code !== 'IO') return undefined;
    throw error;
  }
}

/**
 * Whether the record of a group is there, which makes its snapshot happen. It may lie outside of the place by whose name
 * the disk is known now: it is looked for on the host.
 */
export async function isGroupRecord(folder: string, stored: string): Promise<boolean> {
  return stored !== '' && (await fileExists(resolvePath((await hostPathOf(folder)) ?? folder, stored)));
}

/** The group happened: the staged layer takes the disk's name. */
async function completeSnapshot(
  file: BlockDevice,
  header: Header,
  disk: string,
  snapshot: string,
): Promise<void> {
  const folder = folderOf(disk);
  const layer = joinPath(folder, layerFileName(nameOf(disk), snapshot));
  if (!(await fileExists(layer))) await linkFile(disk, layer);
  await syncFolder(folder);
  const staged = joinPath(folder, stagedFileName(nameOf(disk), snapshot));
  if (!(await isStagedOn(staged, header))) {
    throw new VimgError('CORRUPT', `The staged layer of an interrupted snapshot is missing: ${staged}`, {
      path: disk,
    });
  }
  await renameFile(staged, disk);
  await syncFolder(folder);
  await dropIntent(file, header);
}

/** The snapshot did not happen: the disk is writable again, and nothing of the attempt stays. */
export async function undoSnapshot(
  file: BlockDevice,
  header: Header,
  disk: string,
  snapshot: string,
): Promise<void> {
  const folder = folderOf(disk);
  header.incompatible &= ~INCOMPATIBLE_SEALED;
  header.sealedMs = 0;
  header.snapshotNameLength = setHeaderText(header.snapshotName, '', 'The name');
  await dropIntent(file, header);
  const layer = joinPath(folder, layerFileName(nameOf(disk), snapshot));
  if (await isSameFile(layer, disk)) await removeFile(layer);
  const staged = joinPath(folder, stagedFileName(nameOf(disk), snapshot));
  if (await isStagedOn(staged, header)) await removeFile(staged);
  await syncFolder(folder);
}

/** The snapshot is complete: nothing is left to do in this file. */
export async function dropIntent(file: BlockDevice, header: Header): Promise<void> {
  header.intent = INTENT_NONE;
  header.intentNameLength = setHeaderText(header.intentName, '', 'The name');
  header.groupPathLength = setHeaderText(header.groupPath, '', 'The path');
  await writeHeader(file, header);
}

/** Whether a file is the layer that was being made on this one: nothing else may be renamed or removed. */
async function isStagedOn(staged: string, header: Header): Promise<boolean> {
  return (await peekHeader(staged))?.parentUuid === header.diskUuid;
}

/** The former snapshot has the disk's name now: it is the disk. */
export async function finishPromotion(file: BlockDevice, header: Header): Promise<void> {
  header.incompatible &= ~INCOMPATIBLE_SEALED;
  header.sealedMs = 0;
  header.snapshotNameLength = setHeaderText(header.snapshotName, '', 'The name');
  await dropIntent(file, header);
}
