/**
 * Taking a snapshot, in constant time: the present file becomes the layer `disk@NAME.vvd`, sealed, and a new empty
 * layer takes the disk's name.
 *
 * 1. The new layer is made and synced under a staging name.
 * 2. The disk's header gets the snapshot intent (sealed, names), durably.
 * 3. The layer's name is linked to the file; the folder is synced.
 * 4. The staged layer is renamed over the disk's name: the moment it happens. The folder is synced.
 * 5. The intent is dropped.
 *
 * Several disks: steps 1 to 3 for each, then a group record is written, which is the moment for all, then 4 and 5.
 * A crash anywhere is settled by snapshot-settle.ts.
 */
import { fromSystemError, VimgError } from '../../src/base/errors.ts';
import { newUuid } from '../../src/binary/uuid.ts';
import { folderOf, joinPath, nameOf, relativePath } from '../../src/device/file-path.ts';
import {
  fileExists,
  linkFile,
  openFile,
  removeFile,
  renameFile,
  replaceFile,
  syncFolder,
} from '../../src/device/files.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { stageAttributes } from './attributes.ts';
import { createVvd } from './create.ts';
import { type OpenVvdFile, openForChange, realDisk } from './disk-file.ts';
import { checkSnapshotName, layerPathOf, stagedPathOf } from './file-names.ts';
import { readHeader, setHeaderText, writeHeader } from './header.ts';
import { compressionName } from './info.ts';
import type { VvdLayer } from './layer.ts';
import { INCOMPATIBLE_SEALED, INTENT_SNAPSHOT } from './layout.ts';
import { dropIntent, undoSnapshot } from './snapshot-settle.ts';

/** @throws VimgError `EXISTS` when one of the disks has a snapshot of this name, `LOCKED`, `NO_SPACE` */
export async function createSnapshot(paths: readonly string[], name: string): Promise<void> {
  checkSnapshotName(name);
  const disks = [...new Set(await Promise.all(paths.map(realDisk)))];
  const opened: OpenVvdFile[] = [];
  try {
    for (const path of disks) opened.push(await openForChange(path));
    await takeAll(opened, name);
  } finally {
    for (const disk of opened) await disk.file.close();
  }
}

async function takeAll(disks: readonly OpenVvdFile[], name: string): Promise<void> {
  const [first] = disks;
  if (!first) return;
  const record = disks.length > 1 ? joinPath(folderOf(first.path), `.vimg-snapshot-${newUuid()}`) : undefined;
  const prepared: OpenVvdFile[] = [];
  try {
    for (const disk of disks) await refuseExisting(disk, name);
    for (const disk of disks) {
      prepared.push(disk);
      await prepare(disk, name, record);
    }
    if (record !== undefined) await replaceFile(record, `${disks.map((disk) => disk.path).join('\n')}\n`);
  } catch (error) {
    for (const disk of prepared) await undoSnapshot(disk.file, disk.layer.header, disk.path, name);
    throw fromSystemError(error, { op: 'snapshot', path: first.path });
  }
  for (const disk of disks) {
    await renameFile(stagedPathOf(disk.path, name), disk.path);
    await syncFolder(folderOf(disk.path));
    await dropIntent(disk.file, disk.layer.header);
  }
  if (record !== undefined) {
    for (const disk of disks) await disk.file.flush();
    await removeFile(record);
  }
}

async function refuseExisting(disk: OpenVvdFile, name: string): Promise<void> {
  const layer = layerPathOf(disk.path, name);
  if (!(await fileExists(layer))) return;
  throw new VimgError('EXISTS', `There is a snapshot '${name}' already`, {
    op: 'snapshot',
    path: layer,
    hint: `delete it first: vimg snapshot -d ${name} ${disk.path}`,
  });
}

/** Steps 1 to 3 for one disk. */
async function prepare(disk: OpenVvdFile, name: string, record: string | undefined): Promise<void> {
  const { path, file, layer } = disk;
  await layer.vvdWriter?.close();
  await stageTop(disk, nameOf(layerPathOf(path, name)), stagedPathOf(path, name), layer.virtualSize);
  const { header } = layer;
  header.incompatible |= INCOMPATIBLE_SEALED;
  header.sealedMs = Date.now();
  header.intent = INTENT_SNAPSHOT;
  header.snapshotNameLength = setHeaderText(header.snapshotName, name, 'The name of the snapshot');
  header.intentNameLength = setHeaderText(header.intentName, nameOf(path), 'The name of the disk');
  const group = record === undefined ? '' : relativePath(folderOf(path), record);
  header.groupPathLength = setHeaderText(header.groupPath, group, 'The path of the group record');
  await writeHeader(file, header);
  await linkFile(path, layerPathOf(path, name));
  await syncFolder(folderOf(path));
}

/**
 * Makes an empty layer on `base`, durable, under a staging name. It keeps the attributes of the disk.
 *
 * @param stored how the new layer names its parent
 */
export async function stageTop(
  base: { readonly layer: VvdLayer },
  stored: string,
  staged: string,
  virtualSize: number,
  attributesFrom: VvdLayer = base.layer,
): Promise<void> {
  if (await fileExists(staged)) await removeFile(staged); // from an attempt that never began: the disk has no intent
  const { header } = base.layer;
  const file = await openFile(staged, { readOnly: false, create: 'exclusive', lock: 'write' });
  try {
    await createVvd(file, {
      virtualSize,
      options: { block_size: 2 ** header.blockShift, compression: compressionName(header.compression) },
      backing: { path: stored, format: 'vvd', layer: base.layer },
      gate: closedGate,
    });
    if (attributesFrom.attributes.size > 0) {
      const top = await readHeader(file);
      await stageAttributes(file, top, attributesFrom.attributes);
      await writeHeader(file, top);
    }
    await file.flush();
  } finally {
    await file.close();
  }
}
