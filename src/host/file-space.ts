/**
 * Space in files and block devices: punching holes, zeroing, reserving, finding out where data is; and their cache.
 *
 * Sources: fallocate(2), lseek(2) "Seeking file data and holes". Each function says `false` or `undefined` where the
 * kernel, the file system or the machine cannot do it; the caller then works without.
 */
import { EINTR, EINVAL, ENODEV, ENOSYS, ENOTTY, ENXIO, EOPNOTSUPP, libc, SystemCallError } from './libc.ts';

const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const POSIX_FADV_DONTNEED = 4;

/** What to do with a range of a file. */
export type SpaceChange =
  /** Take space for it; content stays. The file grows when the range passes its end. */
  | 'allocate'
  /** Free its space; it reads as zeroes; the file keeps its size. */
  | 'punch-hole'
  /** Make it zeroes and keep space taken for it; the file keeps its size. */
  | 'zero-range';

const MODE: Readonly<Record<SpaceChange, number>> = {
  allocate: 0,
  'punch-hole': FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
  'zero-range': FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
};

/**
 * Changes how space is taken for `[offset, offset + length)`, in the same tick. Returns false when that is not
 * supported here.
 *
 * @throws SystemCallError for every other failure (ENOSPC, EIO, …)
 */
export function changeSpace(fd: number, change: SpaceChange, offset: number, length: number): boolean {
  const native = libc();
  if (native === undefined) return false;
  let errno = 0;
  do {
    if (native.fallocate(fd, MODE[change], offset, length) === 0) return true;
    errno = native.errno();
  } while (errno === EINTR);
  return unsupportedOrThrow(errno);
}

/** {@link changeSpace} on a thread of its own, for long ranges and for event loops that must not wait. */
export async function changeSpaceAsync(
  fd: number,
  change: SpaceChange,
  offset: number,
  length: number,
): Promise<boolean> {
  const native = libc();
  if (native === undefined) return false;
  const errno = await native.fallocateAsync(fd, MODE[change], offset, length);
  return errno === 0 || unsupportedOrThrow(errno);
}

function unsupportedOrThrow(errno: number): false {
  if (errno === EOPNOTSUPP || errno === ENOSYS || errno === ENODEV || errno === ENOTTY) return false;
  throw new SystemCallError('fallocate', errno);
}

/** Where data or a hole starts. */
export type SeekAnswer =
  /** Byte offset, at the one asked for or behind it. */
  | number
  /** There is none up to the end of the file. */
  | 'none'
  /** Holes cannot be told from data here. */
  | undefined;

/** The first byte at or behind `offset` that is not in a hole. */
export function seekData(fd: number, offset: number): SeekAnswer {
  return seek(fd, offset, SEEK_DATA);
}

/** The first byte at or behind `offset` that is in a hole; the end of a file counts as one. */
export function seekHole(fd: number, offset: number): SeekAnswer {
  return seek(fd, offset, SEEK_HOLE);
}

function seek(fd: number, offset: number, whence: number): SeekAnswer {
  const native = libc();
  if (native === undefined) return undefined;
  const found = native.lseek(fd, offset, whence);
  if (found >= 0) return found;
  const errno = native.errno();
  if (errno === ENXIO) return 'none';
  if (errno === EINVAL || errno === EOPNOTSUPP) return undefined;
  throw new SystemCallError('lseek', errno);
}

/** Drops the file's clean pages from the host's cache (posix_fadvise(2)); does nothing where the kernel does not. */
export function forgetCached(fd: number): void {
  libc()?.posixFadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}
