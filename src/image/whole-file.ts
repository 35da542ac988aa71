/**
 * Moving and removing files that may be disks: neither pulls a disk away from under those that stand on it, nor from
 * under someone who has it open.
 */
import { isVimgError, VimgError } from '../base/errors.ts';
import { folderOf, relativePath } from '../device/file-path.ts';
import { fileExists, fileStatus, openFile, removeFile, renameFile, syncFolder } from '../device/files.ts';
import { storedReference } from './create-image.ts';
import type { FormatDriver } from './format-driver.ts';
import { closedGate, resolveReference } from './gate-policies.ts';
import { probeFormat } from './probe.ts';
import type { FormatRegistry } from './registry.ts';

export interface WholeFileOptions {
  readonly formats: FormatRegistry;
  /** Also when other disks stand on the file. */
  readonly force?: boolean;
}

/**
 * Gives a file another name in its place, at one instant. A layer goes on to find its parent; durable when this returns.
 *
 * @throws VimgError `EXISTS` when the new name is taken; `LOCKED` when the file is in use, or when other disks stand on
 *   it; `NOT_FOUND`; `USAGE` from one place to another
 */
export async function moveFile(from: string, to: string, options: WholeFileOptions): Promise<void> {
  if (await fileExists(to))
    throw new VimgError('EXISTS', 'The file exists already', { op: 'move', path: to });
  if ((await fileStatus(from))?.kind === 'folder') {
    throw new VimgError('UNSUPPORTED', 'Only files can be moved, not folders', {
      op: 'move',
      path: from,
      hint: 'make the new folder (vimg mkdir), and move the files in it',
    });
  }
  const file = await openFile(from, { lock: 'write' });
  let parent: { readonly driver: FormatDriver; readonly path: string } | undefined;
  try {
    const driver = await driverOf(file, options.formats);
    if (!options.force) await refuseWithChildren(from, driver, 'move', []);
    parent = await parentOf(from, driver);
    await renameFile(from, to);
    await syncFolder(folderOf(to));
    if (folderOf(from) !== folderOf(to)) await syncFolder(folderOf(from));
  } finally {
    await file.close();
  }
  if (parent === undefined || folderOf(from) === folderOf(to)) return;
  await parent.driver.lifecycle?.changeParentPath(to, storedReference(parent.path, to));
}

/**
 * Removes files. Those that stand on one of them have to be among them.
 *
 * @throws VimgError `LOCKED` when one is in use, or others stand on it; then none is removed
 */
export async function removeFiles(paths: readonly string[], options: WholeFileOptions): Promise<void> {
  const opened: { path: string; close: () => Promise<void> }[] = [];
  try {
    for (const path of paths) {
      const file = await openFile(path, { lock: 'write' });
      opened.push({ path, close: () => file.close() });
      if (!options.force)
        await refuseWithChildren(path, await driverOf(file, options.formats), 'remove', paths);
    }
    for (const { path } of opened) await removeFile(path);
    for (const folder of new Set(paths.map(folderOf))) await syncFolder(folder);
  } finally {
    for (const { close } of opened) await close();
  }
}

/** What the content says; nothing for a file that two formats claim: as a file it can be moved all the same. */
async function driverOf(
  file: Parameters<typeof probeFormat>[0],
  formats: FormatRegistry,
): Promise<FormatDriver | undefined> {
  try {
    return (await probeFormat(file, formats)).driver;
  } catch (error) {
    if (isVimgError(error)) return undefined;
    throw error;
  }
}

async function refuseWithChildren(
  path: string,
  driver: FormatDriver | undefined,
  op: string,
  besides: readonly string[],
): Promise<void> {
  const standing = (await driver?.lifecycle?.standingOn(path)) ?? [];
  const left = standing.filter((child) => !besides.includes(child));
  if (left.length === 0) return;
  const names = left.map((child) => relativePath(folderOf(path), child)).join(', ');
  throw new VimgError('LOCKED', `Other disks stand on this one: ${names}`, {
    op,
    path,
    hint: 'convert them to disks of their own first (vimg clone --full), or force it',
  });
}

/** A copy that will be `to` is told where the parent of the original is; nothing for what stands on nothing. */
export async function keepParent(
  original: string,
  copy: string,
  to: string,
  formats: FormatRegistry,
): Promise<void> {
  const file = await openFile(original, { readOnly: true });
  let driver: FormatDriver | undefined;
  try {
    driver = await driverOf(file, formats);
  } finally {
    await file.close();
  }
  const parent = await parentOf(original, driver);
  await parent?.driver.lifecycle?.changeParentPath(copy, storedReference(parent.path, to));
}

/** The parent of a layer, when its format knows how to name another one. */
async function parentOf(
  path: string,
  driver: FormatDriver | undefined,
): Promise<{ readonly driver: FormatDriver; readonly path: string } | undefined> {
  if (!driver?.lifecycle) return undefined;
  const file = await openFile(path, { readOnly: true });
  try {
    const layer = await driver.open(file, { readOnly: true, gate: closedGate, infoOnly: true });
    return layer.backing && { driver, path: resolveReference(layer.backing.path, path) };
  } finally {
    await file.close();
  }
}
