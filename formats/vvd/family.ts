/** Who stands on whom: the layers beside a disk, and the clones that a base was told of. */
import { isVimgError, VimgError } from '../../src/base/errors.ts';
import { folderOf, isWholePath, nameOf, relativePath, resolvePath } from '../../src/device/file-path.ts';
import { fileStatus } from '../../src/device/files.ts';
import type { LayerSnapshot } from '../../src/image/lifecycle.ts';
import type { AttributeValue } from './attributes.ts';
import { headerText, isSealed } from './header.ts';
import { type FolderEntry, peekHeader, vvdFilesIn } from './header-peek.ts';
import { type Header, INTENT_DELETE, INTENT_SNAPSHOT } from './layout.ts';
import { isGroupRecord } from './snapshot-settle.ts';

/** The attribute in which a base keeps the paths of its clones, relative to its folder, one a line. */
export const CLONES_ATTRIBUTE = 'clones';

/**
 * Files that stand directly on a layer, as far as they are known: beside it, and in the folders of its clones. A clone
 * that took a snapshot since has become another file there.
 */
export async function childrenOf(path: string, header: Header, clones: string): Promise<FolderEntry[]> {
  const folder = folderOf(path);
  const told = clones.split('\n').filter((stored) => stored !== '');
  const folders = new Set([folder, ...told.map((stored) => folderOf(resolvePath(folder, stored)))]);
  const children: FolderEntry[] = [];
  for (const each of folders) {
    if (each !== folder && !(await isThere(each))) continue;
    const found = await vvdFilesIn(each);
    children.push(...found.filter((entry) => entry.header.parentUuid === header.diskUuid));
  }
  return children;
}

/** Whether a file is a disk, or by its name one of its snapshots. */
export function isLayerOf(disk: string, path: string): boolean {
  return path === disk || isNamedAfter(nameOf(disk), path);
}

function isNamedAfter(disk: string, path: string): boolean {
  return nameOf(path).startsWith(`${disk.replace(/\.vvd$/, '')}@`);
}

/** The attribute by which a base knows a clone; nothing for one beside it, which is found by looking. */
export function cloneRecord(
  base: string,
  clone: string,
  known: AttributeValue | undefined,
): ReadonlyMap<string, AttributeValue> | undefined {
  const stored = relativePath(folderOf(base), clone);
  if (!isWholePath(stored) && !stored.includes('/')) return undefined;
  const names = new Set(
    String(known ?? '')
      .split('\n')
      .filter((name) => name !== ''),
  );
  return new Map([[CLONES_ATTRIBUTE, [...names.add(stored)].join('\n')]]);
}

/** A place that cannot be reached now holds no clones that could be asked. */
async function isThere(folder: string): Promise<boolean> {
  try {
    return (await fileStatus(folder))?.kind === 'folder';
  } catch (error) {
    if (isVimgError(error)) return false;
    throw error;
  }
}

/** Bytes of storage that a file takes. */
export async function allocatedTo(path: string): Promise<number> {
  return (await fileStatus(path))?.allocated ?? 0;
}

/** @throws VimgError `LOCKED` naming those that stand on the layer */
export function refuseWithChildren(path: string, children: readonly FolderEntry[], op: string): void {
  if (children.length === 0) return;
  const names = children.map((child) => relativePath(folderOf(path), child.path)).join(', ');
  throw new VimgError('LOCKED', `Other disks stand on this layer: ${names}`, {
    op,
    path,
    hint: 'convert them to disks of their own first (vimg clone --full), or delete them',
  });
}

/** The snapshots of a disk: sealed layers beside it that carry its name, and named layers of its chain. */
export async function snapshotsOf(diskPath: string): Promise<LayerSnapshot[]> {
  const entries = await vvdFilesIn(folderOf(diskPath));
  const byUuid = new Map(entries.map((entry) => [entry.header.diskUuid, entry]));
  const inChain = new Set<string>();
  const top = await peekHeader(diskPath);
  const undecided = top && (await isUndecided(top, diskPath)) ? top.diskUuid : undefined;
  let at = top;
  while (at && !inChain.has(at.parentUuid)) {
    inChain.add(at.parentUuid);
    at = byUuid.get(at.parentUuid)?.header;
  }
  return entries
    .filter(
      (entry) =>
        entry.header.diskUuid !== undecided &&
        (isSnapshotOf(entry, nameOf(diskPath)) ||
          (inChain.has(entry.header.diskUuid) && snapshotName(entry) !== '')),
    )
    .map((entry) => ({
      name: snapshotName(entry),
      path: entry.path,
      uuid: entry.header.diskUuid,
      dateMs: entry.header.sealedMs,
      virtualSize: entry.header.virtualSize,
      inChain: inChain.has(entry.header.diskUuid),
      deleting: entry.header.intent === INTENT_DELETE,
    }))
    .sort((a, b) => a.dateMs - b.dateMs || a.name.localeCompare(b.name));
}

/** The disk itself bears the name of a snapshot that did not happen: a crash came first, and it will be undone. */
async function isUndecided(top: Header, diskPath: string): Promise<boolean> {
  if (top.intent !== INTENT_SNAPSHOT) return false;
  return !(await isGroupRecord(folderOf(diskPath), headerText(top.groupPath, top.groupPathLength)));
}

function isSnapshotOf(entry: FolderEntry, disk: string): boolean {
  return snapshotName(entry) !== '' && isNamedAfter(disk, entry.path);
}

/** Empty for a file that is no snapshot. */
function snapshotName(entry: FolderEntry): string {
  return isSealed(entry.header) ? headerText(entry.header.snapshotName, entry.header.snapshotNameLength) : '';
}

/** @throws VimgError `NOT_FOUND` naming the snapshots that there are */
export async function findSnapshot(diskPath: string, name: string): Promise<LayerSnapshot> {
  const all = await snapshotsOf(diskPath);
  const found = all.find((snapshot) => snapshot.name === name);
  if (found) return found;
  const names = all.map((snapshot) => snapshot.name).join(', ');
  throw new VimgError('NOT_FOUND', `There is no snapshot '${name}'`, {
    path: diskPath,
    hint: names === '' ? 'this disk has no snapshots' : `snapshots of this disk: ${names}`,
  });
}

/** @throws VimgError `UNSUPPORTED` for a snapshot whose deletion was interrupted: it keeps no past state any more */
export function refuseDeleting(snapshot: LayerSnapshot): void {
  if (!snapshot.deleting) return;
  throw new VimgError('UNSUPPORTED', `The snapshot '${snapshot.name}' is being deleted`, {
    path: snapshot.path,
    hint: `finish that: vimg snapshot -d ${snapshot.name} DISK`,
  });
}
