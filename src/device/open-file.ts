/**
 * Opening a host file or block device: which kinds are accepted, in which order things are done, and the lock.
 *
 * Order: look at the kind before opening (opening a FIFO would wait, opening a tape would wind it), open, look again
 * at what was really opened, lock, look whether the path still leads there (whoever had the lock before may have put
 * another file under that name), and only then empty a file that is to be overwritten.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, type Stats, statSync } from 'node:fs';
import { fromSystemError, VimgError } from '../base/errors.ts';
import {
  blockDeviceDiscardGranularity,
  blockDeviceSector,
  blockDeviceSize,
} from '../host/block-device-info.ts';
import { changeFileLock, LOCK_BYTES, type LockMode } from '../host/file-lock.ts';
import { errnoName } from '../host/libc.ts';
import { findLockHolders, type LockHolder } from '../host/processes.ts';

export interface FileOpenOptions {
  /** Default false. */
  readonly readOnly?: boolean;
  /** `exclusive`: a new file, which must not exist. `truncate`: a new file, or an existing one emptied. */
  readonly create?: 'exclusive' | 'truncate';
  /** Default `none`. See file-lock.ts. */
  readonly lock?: LockMode;
  /** What messages call the open file. Default: its path. */
  readonly name?: string;
}

/** An open file, checked and locked. */
export interface OpenedFile {
  readonly fd: number;
  readonly isBlockDevice: boolean;
  /** Bytes. */
  readonly size: number;
  /** Bytes of the unit in which space can be changed: 1 for files, a sector for block devices. */
  readonly sector: number;
  readonly discardGranularity: number;
  /** Whether a lock is held: false without one, and where the file system has no locks. */
  readonly locked: boolean;
}

/** Times a file is opened anew because another one took its name before the lock was had. */
const REPLACED_MAX = 20;

/** Opens `path`. @throws VimgError `NOT_FOUND`, `EXISTS`, `READ_ONLY`, `LOCKED`, `USAGE` for another kind of file */
export async function openFile(path: string, options: FileOpenOptions): Promise<OpenedFile> {
  for (let attempt = 0; attempt < REPLACED_MAX; attempt++) {
    const opened = await openOnce(path, options);
    if (opened !== undefined) return opened;
  }
  throw new VimgError('LOCKED', 'the file is replaced by others again and again', { op: 'open', path });
}

/** Resolves to nothing when the path led elsewhere once the lock was had: what was opened is no disk any more. */
async function openOnce(path: string, options: FileOpenOptions): Promise<OpenedFile | undefined> {
  const op = options.create === undefined ? 'open' : 'create';
  const fd = openDescriptor(path, options, op);
  try {
    const stats = fstatSync(fd);
    checkKind(stats, path, op);
    const locked = await lockDescriptor(fd, 'none', options.lock ?? 'none', path);
    if (locked && !leadsTo(path, stats)) {
      closeSync(fd);
      return undefined;
    }
    if (!stats.isBlockDevice()) {
      if (options.create === 'truncate') ftruncateSync(fd, 0);
      const size = fstatSync(fd).size; // again: it may have changed before the lock was had
      return { fd, isBlockDevice: false, size, sector: 1, discardGranularity: stats.blksize, locked };
    }
    const size = blockDeviceSize(fd, stats.rdev);
    if (size === undefined)
      throw new VimgError('IO', 'the size of the block device is unknown', { op, path });
    return {
      fd,
      isBlockDevice: true,
      size,
      sector: blockDeviceSector(fd, stats.rdev),
      discardGranularity: blockDeviceDiscardGranularity(stats.rdev),
      locked,
    };
  } catch (error) {
    closeSync(fd);
    throw fromSystemError(error, { op, path });
  }
}

function leadsTo(path: string, opened: Stats): boolean {
  const now = statSync(path, { throwIfNoEntry: false });
  return now !== undefined && now.ino === opened.ino && now.dev === opened.dev;
}

function openDescriptor(path: string, options: FileOpenOptions, op: string): number {
  const { create, readOnly = false, lock = 'none' } = options;
  if (readOnly && create !== undefined) {
    throw new VimgError('USAGE', 'a file cannot be created for reading only', { op, path });
  }
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats !== undefined) checkKind(stats, path, op);
    // O_NONBLOCK: should a FIFO have taken the file's place since, the open fails or returns instead of waiting.
    let flags = constants.O_NONBLOCK | (readOnly ? constants.O_RDONLY : constants.O_RDWR);
    if (create !== undefined) flags |= constants.O_CREAT;
    // On a block device, O_EXCL without O_CREAT asks the kernel whether it is mounted or part of another device.
    if (create === 'exclusive' || (stats?.isBlockDevice() && lock === 'write')) flags |= constants.O_EXCL;
    if (stats?.isBlockDevice() && create === 'truncate') flags &= ~constants.O_CREAT;
    return openSync(path, flags, 0o644);
  } catch (error) {
    if (errnoName(error) === 'EBUSY') {
      throw new VimgError('LOCKED', 'the block device is mounted, or in use by another one or by a program', {
        op,
        path,
        hint: 'unmount it, or stop what is using it (`lsblk` shows that)',
        cause: error,
      });
    }
    throw fromSystemError(error, { op, path });
  }
}

function checkKind(stats: Stats, path: string, op: string): void {
  if (stats.isFile() || stats.isBlockDevice()) return;
  let kind = 'of an unknown kind';
  if (stats.isDirectory()) kind = 'a directory';
  else if (stats.isFIFO()) kind = 'a FIFO';
  else if (stats.isCharacterDevice()) kind = 'a character device';
  else if (stats.isSocket()) kind = 'a socket';
  throw new VimgError('USAGE', `it is ${kind}: a disk must be a regular file or a block device`, {
    op,
    path,
  });
}

/**
 * Changes the lock held through `fd`. Resolves to whether one is held now.
 *
 * @throws VimgError `LOCKED`, naming the process that holds it when that can be found out
 */
export async function lockDescriptor(
  fd: number,
  from: LockMode,
  to: LockMode,
  path: string,
): Promise<boolean> {
  const result = await changeFileLock(fd, from, to);
  if (result.state !== 'refused') return result.state === 'locked' && to !== 'none';
  const holders = findLockHolders(fd, LOCK_BYTES.first, LOCK_BYTES.last);
  throw new VimgError('LOCKED', refusal(to, holders), { op: 'lock', path, hint: refusalHint(to, holders) });
}

function refusal(mode: LockMode, holders: readonly LockHolder[]): string {
  const use = mode === 'write' ? 'is in use by' : 'is being written by';
  if (holders.length === 0) return `the image ${use} another process`;
  const names = holders.map(({ pid, program }) =>
    pid === process.pid ? 'this process itself' : `process ${pid} (${program})`,
  );
  return `the image ${use} ${names.join(', ')}`;
}

function refusalHint(mode: LockMode, holders: readonly LockHolder[]): string {
  const other = holders.find(({ pid }) => pid !== process.pid);
  const step = mode === 'write' ? 'stop it, or work on a clone' : 'stop it, or read a snapshot';
  return other === undefined ? step : `${step}; it was started as: ${other.command}`;
}

/** Processes that hold a lock on a file of the host, as far as /proc tells. Takes milliseconds. */
export function lockHolders(path: string): LockHolder[] {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return []; // not to be looked at by us
  }
  try {
    return findLockHolders(fd, LOCK_BYTES.first, LOCK_BYTES.last);
  } finally {
    closeSync(fd);
  }
}
