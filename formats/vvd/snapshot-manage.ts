/** Going back to a snapshot, and deleting one. */
import { VimgError } from '../../src/base/errors.ts';
import { folderOf, relativePath } from '../../src/device/file-path.ts';
import { openFile, removeFile, renameFile, syncFolder } from '../../src/device/files.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import type { DeletePlan, LifecycleContext, LongOperation } from '../../src/image/lifecycle.ts';
import { type OpenVvdFile, openForChange, realDisk } from './disk-file.ts';
import {
  allocatedTo,
  CLONES_ATTRIBUTE,
  childrenOf,
  findSnapshot,
  isLayerOf,
  refuseDeleting,
  refuseWithChildren,
} from './family.ts';
import { stagedPathOf } from './file-names.ts';
import { isSealed } from './header.ts';
import type { FolderEntry } from './header-peek.ts';
import type { VvdLayer } from './layer.ts';
import { mergeDown, mergeUp, storedBytes } from './merge.ts';
import { openVvd } from './open.ts';
import { stageTop } from './snapshot-create.ts';
import { finishPromotion } from './snapshot-settle.ts';

/** A new empty layer on the snapshot takes the disk's name; the old top is given up. One rename. */
export async function revertSnapshot(path: string, name: string): Promise<void> {
  const disk = await realDisk(path);
  const top = await openForChange(disk);
  try {
    const snapshot = await findSnapshot(disk, name);
    refuseDeleting(snapshot);
    const base = await openBase(snapshot.path);
    try {
      const staged = stagedPathOf(disk, name);
      const stored = relativePath(folderOf(disk), snapshot.path);
      const file = await stageTop({ layer: base }, stored, staged, base.virtualSize, {
        attributesFrom: top.layer,
      });
      try {
        await renameFile(staged, disk);
        await syncFolder(folderOf(disk));
      } finally {
        await file.close();
      }
    } finally {
      await base.close();
    }
  } finally {
    await top.file.close();
  }
}

/** A layer that others may be reading at the same time. */
async function openBase(path: string): Promise<VvdLayer> {
  const file = await openFile(path, { readOnly: true, lock: 'read' });
  try {
    return await openVvd(file, { readOnly: true, gate: closedGate });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What stands on the snapshot, opened; how it will be deleted. */
interface Deletion {
  readonly plan: DeletePlan;
  readonly snapshotPath: string;
  readonly child: FolderEntry | undefined;
}

export async function planDelete(path: string, name: string): Promise<DeletePlan> {
  return (await planDeletion(await realDisk(path), name)).plan;
}

async function planDeletion(disk: string, name: string): Promise<Deletion> {
  const { path: snapshotPath } = await findSnapshot(disk, name);
  const view = await openBase(snapshotPath);
  let children: FolderEntry[];
  let below: number;
  try {
    children = await childrenOf(
      snapshotPath,
      view.header,
      String(view.attributes.get(CLONES_ATTRIBUTE) ?? ''),
    );
    below = await storedBytes(view);
  } finally {
    await view.close();
  }
  const [child] = children;
  if (!child) {
    const freed = await allocatedTo(snapshotPath);
    return { plan: { snapshot: name, way: 'unlink', bytes: 0, freed }, snapshotPath, child };
  }
  if (children.length > 1 || !isLayerOf(disk, child.path))
    refuseWithChildren(snapshotPath, children, 'delete snapshot');
  const above = await openBase(child.path);
  try {
    const bytes = await storedBytes(above);
    const up = child.path === disk && !isSealed(child.header) && bytes < below;
    const [way, moved, goes] = up
      ? (['up', bytes, child.path] as const)
      : (['down', below, snapshotPath] as const);
    const freed = await allocatedTo(goes);
    return { plan: { snapshot: name, way, bytes: moved, freed }, snapshotPath, child };
  } finally {
    await above.close();
  }
}

/**
 * Deletes a snapshot. What the disk and its other snapshots read does not change.
 *
 * @throws VimgError `LOCKED` when other disks stand on it, `CANCELLED`: doing it again goes on
 */
export async function deleteSnapshot(
  path: string,
  name: string,
  context: LifecycleContext & LongOperation,
): Promise<DeletePlan> {
  const disk = await realDisk(path);
  const guard = await openForChange(disk); // settles the disk, and refuses while it is in use
  await guard.file.close();
  const { plan, snapshotPath, child } = await planDeletion(disk, name);
  const snapshot = await openForChange(snapshotPath, { allowSealed: true, keepContentId: true });
  try {
    if (plan.way === 'unlink' || !child) {
      await removeDurably(snapshotPath);
      return plan;
    }
    const above = await openForChange(child.path, { allowSealed: true, keepContentId: true });
    try {
      await merge(plan, snapshot, above, context);
    } finally {
      await above.file.close();
    }
    return plan;
  } finally {
    await snapshot.file.close();
  }
}

async function merge(
  plan: DeletePlan,
  snapshot: OpenVvdFile,
  above: OpenVvdFile,
  context: LifecycleContext & LongOperation,
): Promise<void> {
  if (plan.way === 'down') {
    await mergeDown(snapshot, above, context);
    await removeDurably(snapshot.path);
    return;
  }
  if (isSealed(above.layer.header))
    throw new VimgError('READ_ONLY', 'The disk above is sealed', { path: above.path });
  await mergeUp(above, snapshot, context);
  await renameFile(snapshot.path, above.path);
  await syncFolder(folderOf(above.path));
  await finishPromotion(snapshot.file, snapshot.layer.header);
}

async function removeDurably(path: string): Promise<void> {
  await removeFile(path);
  await syncFolder(folderOf(path));
}
