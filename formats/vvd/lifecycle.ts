/** The operations on whole VVD files, as the verbs call them. */
import { isVimgError } from '../../src/base/errors.ts';
import { nameOf } from '../../src/device/file-path.ts';
import { isFlatPath } from '../../src/device/mounts.ts';
import { cloneSnapshotName } from '../../src/image/clone.ts';
import type { Lifecycle } from '../../src/image/lifecycle.ts';
import { changeAttributes, changeParentPath, listAttributes, storeAttributes } from './attribute-change.ts';
import { openForChange, realDisk, refuseWithoutFolder } from './disk-file.ts';
import {
  CLONES_ATTRIBUTE,
  childrenOf,
  cloneRecord,
  findSnapshot,
  refuseDeleting,
  snapshotsOf,
} from './family.ts';
import { layerPathOf } from './file-names.ts';
import { isSealed } from './header.ts';
import { peekHeader } from './header-peek.ts';
import { INTENT_SNAPSHOT } from './layout.ts';
import { openDiskOperations } from './open-operations.ts';
import { sealVvd, unsealVvd } from './seal.ts';
import { createSnapshot } from './snapshot-create.ts';
import { deleteSnapshot, planDelete, revertSnapshot } from './snapshot-manage.ts';
import { settleSnapshot } from './snapshot-settle.ts';

export const vvdLifecycle: Lifecycle = {
  open: openDiskOperations,
  settle: settleSnapshot,
  createSnapshot,
  listSnapshots: async (path) => snapshotsOf(await realDisk(path)),
  revertSnapshot,
  planDelete,
  deleteSnapshot,
  baseForClone,
  recordClone,
  standingOn,
  neededFor,
  seal: sealVvd,
  unseal: unsealVvd,
  readAttributes: listAttributes,
  changeAttributes,
  changeParentPath,
};

/** A sealed layer serves as it is; a disk that is still written takes a snapshot first, and stays writable on it. */
async function baseForClone(path: string, snapshot: string | undefined): Promise<string> {
  const disk = await realDisk(path);
  if (snapshot !== undefined) {
    const found = await findSnapshot(disk, snapshot);
    refuseDeleting(found);
    return found.path;
  }
  let header = await peekHeader(disk);
  if (header?.intent === INTENT_SNAPSHOT) {
    // sealed by a snapshot that a crash interrupted: when that is undone, the disk is written again
    const settled = await openForChange(disk, { allowSealed: true, keepContentId: true });
    await settled.file.close();
    header = await peekHeader(disk);
  }
  if (header && isSealed(header)) return disk;
  refuseWithoutFolder(path, 'clone');
  const name = cloneSnapshotName(new Date());
  await createSnapshot([disk], name);
  return layerPathOf(disk, name);
}

async function recordClone(base: string, clone: string): Promise<boolean> {
  if (isFlatPath(base)) return true; // paths of this host mean nothing where the base lies
  try {
    const change = cloneRecord(base, clone, (await listAttributes(base)).get(CLONES_ATTRIBUTE));
    if (change) await storeAttributes(base, change);
    return true;
  } catch (error) {
    if (isVimgError(error, 'LOCKED') || isVimgError(error, 'LIMIT') || isVimgError(error, 'READ_ONLY'))
      return false;
    throw error;
  }
}

async function standingOn(path: string): Promise<string[]> {
  const disk = await realDisk(path);
  const header = await peekHeader(disk);
  if (!header) return [];
  const clones = String((await listAttributes(disk)).get(CLONES_ATTRIBUTE) ?? '');
  return (await childrenOf(disk, header, clones)).map((child) => child.path);
}

async function neededFor(path: string): Promise<string | undefined> {
  const disk = await realDisk(path);
  const header = await peekHeader(disk);
  if (!header) return undefined; // too damaged to be anything's parent
  const children = await standingOn(disk);
  if (children.length > 0) return `other disks stand on it (${children.map(nameOf).join(', ')})`;
  if (isSealed(header)) return 'it is sealed';
  const names = (await snapshotsOf(disk)).map(({ name }) => `'${name}'`);
  return names.length > 0 ? `it has snapshots (${names.join(', ')})` : undefined;
}
