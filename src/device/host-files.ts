/** The host's own file system, as a place where disk files live. */
import { rmSync } from 'node:fs';
import { chmod, chown, link, mkdir, readdir, realpath, rename, rmdir, stat, unlink } from 'node:fs/promises';
import { fromSystemError, VimgError } from '../base/errors.ts';
import { replaceFile, syncFolder } from '../host/atomic-file.ts';
import { errnoName } from '../host/libc.ts';
import { FileDevice } from './file-device.ts';
import type { FileStatus, FileSystem } from './file-system.ts';

/** The host's files; what a path means that is in no datastore. */
export const hostFiles: FileSystem = {
  open: (path, options) => FileDevice.open(path, options),
  status: hostStatus,
  list: (folder) => attempt('list', folder, () => readdir(folder)),
  realPath: (path) => attempt('open', path, () => realpath(path)),
  rename: (from, to) => attempt('rename', from, () => rename(from, to)),
  link: (path, second) => attempt('link', path, () => link(path, second)),
  remove: (path) => attempt('remove', path, () => unlink(path)),
  makeFolder: (path) => attempt('make the folder', path, () => mkdir(path)),
  removeFolder,
  syncFolder: (folder) => attempt('sync', folder, () => syncFolder(folder)),
  replace: (path, content) => attempt('write', path, () => replaceFile(path, content)),
  keepOwner,
  removeAtExit: (path) => rmSync(path, { force: true }),
};

async function hostStatus(path: string): Promise<FileStatus | undefined> {
  try {
    const found = await stat(path, { bigint: true });
    return {
      kind: found.isFile()
        ? 'file'
        : found.isDirectory()
          ? 'folder'
          : found.isBlockDevice()
            ? 'device'
            : 'other',
      size: Number(found.size),
      allocated: Number(found.blocks) * 512,
      identity: `${found.dev}:${found.ino}`,
      volume: String(found.dev),
      modifiedNs: found.mtimeNs,
      owner: { uid: Number(found.uid), gid: Number(found.gid), mode: Number(found.mode) & 0o7777 },
    };
  } catch (error) {
    const errno = errnoName(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw fromSystemError(error, { op: 'open', path });
  }
}

async function removeFolder(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (errnoName(error) !== 'ENOTEMPTY') throw fromSystemError(error, { op: 'remove', path });
    throw new VimgError('USAGE', 'The folder is not empty', { op: 'remove', path, cause: error });
  }
}

async function keepOwner(path: string, { owner }: FileStatus): Promise<void> {
  if (owner === undefined) return;
  await attempt('change the owner of', path, async () => {
    await chown(path, owner.uid, owner.gid).catch((error: unknown) => {
      if (errnoName(error) !== 'EPERM') throw error; // without privileges it belongs to us
    });
    await chmod(path, owner.mode);
  });
}

async function attempt<T>(op: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fromSystemError(error, { op, path });
  }
}
