/** Files by their paths, wherever they are: each function asks the place that the path is in (mounts.ts). */
import { VimgError } from '../base/errors.ts';
import { temporaryPath as temporaryName } from '../host/atomic-file.ts';
import type { FileDeviceOptions } from './file-device.ts';
import { folderOf, joinPath, nameOf } from './file-path.ts';
import type { DiskFile, FileIdentity, FileStatus, FileSystem } from './file-system.ts';
import { filesOf, placeOf } from './mounts.ts';
import { lockHolders } from './open-file.ts';
import { PatientFile, type WaitForSpace } from './patient-file.ts';

let waitForSpace: WaitForSpace | undefined;

/**
 * From now on, writes of every file that this process opens wait for space instead of failing: for a process whose
 * clients cannot do anything sensible about a full disk. Without a policy they fail again.
 */
export function waitWhenFull(policy: WaitForSpace | undefined): void {
  waitForSpace = policy;
}

/** @throws VimgError see {@link FileSystem} */
export async function openFile(path: string, options: FileDeviceOptions = {}): Promise<DiskFile> {
  const file = await filesOf(path).open(path, options);
  return waitForSpace && !file.readOnly ? new PatientFile(file, waitForSpace) : file;
}

/** As {@link openFile}; but writes fail where there is no space, whatever the policy: for work that can be done later. */
export function openImpatientFile(path: string, options: FileDeviceOptions): Promise<DiskFile> {
  return filesOf(path).open(path, options);
}

/** Undefined when nothing has the name. */
export function fileStatus(path: string): Promise<FileStatus | undefined> {
  return filesOf(path).status(path);
}

/**
 * Which file a name means, without a look at it where the place knows by the name alone; there it may be one that does not
 * exist. Undefined when nothing has the name.
 */
export async function fileIdentity(path: string): Promise<FileIdentity | undefined> {
  const files = filesOf(path);
  return files.identify ? files.identify(path) : files.status(path);
}

/** The file of the host that a path leads to; undefined in a place whose files are no files of the host. */
export async function hostPathOf(path: string): Promise<string | undefined> {
  return placeOf(path) === undefined ? path : filesOf(path).hostPath?.(path);
}

/** Process IDs of those on this host that hold a lock on a file, as far as can be told. */
export async function lockHoldersOf(path: string): Promise<readonly number[]> {
  const told = await filesOf(path).lockHolders?.(path);
  if (told) return told;
  const host = await hostPathOf(path);
  return host === undefined ? [] : lockHolders(host).map(({ pid }) => pid);
}

export async function fileExists(path: string): Promise<boolean> {
  return (await fileStatus(path)) !== undefined;
}

/** Whether two names mean one file now. False when one of them means none. */
export async function isSameFile(left: string, right: string): Promise<boolean> {
  const found = await fileIdentity(left);
  return found !== undefined && found.identity === (await fileIdentity(right))?.identity;
}

export function listFolder(folder: string): Promise<string[]> {
  return filesOf(folder).list(folder);
}

export function realPath(path: string): Promise<string> {
  return filesOf(path).realPath(path);
}

/** @throws VimgError `USAGE` from one place to another */
export async function renameFile(from: string, to: string): Promise<void> {
  await common('rename', from, to).rename(from, to);
}

/** @throws VimgError `USAGE` from one place to another */
export async function linkFile(path: string, second: string): Promise<void> {
  await common('link', path, second).link(path, second);
}

/** Copies a file without its data where its place can do that. @returns false when it cannot, and nothing was done */
export async function copyInPlace(from: string, to: string): Promise<boolean> {
  const files = filesOf(from);
  return files === filesOf(to) && files.copy !== undefined && (await files.copy(from, to));
}

export function removeFile(path: string): Promise<void> {
  return filesOf(path).remove(path);
}

export function makeFolder(path: string): Promise<void> {
  return filesOf(path).makeFolder(path);
}

export function removeFolder(path: string): Promise<void> {
  return filesOf(path).removeFolder(path);
}

export function syncFolder(folder: string): Promise<void> {
  return filesOf(folder).syncFolder(folder);
}

export function replaceFile(path: string, content: Uint8Array | string): Promise<void> {
  return filesOf(path).replace(path, content);
}

/** A name for a temporary file beside `path`: hidden, never used before, and telling what it belongs to. */
export function temporaryPath(path: string): string {
  return joinPath(folderOf(path), temporaryName(nameOf(path)));
}

function common(op: string, from: string, to: string): FileSystem {
  const files = filesOf(from);
  if (files === filesOf(to)) return files;
  throw new VimgError('USAGE', `'${to}' is in another place`, {
    op,
    path: from,
    hint: 'copy it there: vimg cp',
  });
}
