/**
 * Copies between files that the kernel makes by itself: copy_file_range(2) and FICLONERANGE (ioctl_ficlonerange(2)).
 *
 * Where both files lie on a file system that shares extents, nothing is moved. Elsewhere the kernel copies, and holes
 * of the source become data: callers copy data ranges only.
 */
import {
  EAGAIN,
  EINTR,
  EINVAL,
  ENOSYS,
  ENOTTY,
  EOPNOTSUPP,
  EPERM,
  EXDEV,
  libc,
  SystemCallError,
} from './libc.ts';

const FICLONERANGE = 0x4020940d;

/** Bytes of one call: long enough to be cheap, short enough that a thread is free again soon. */
const COPY_PIECE = 64 * 1024 * 1024;

/**
 * Copies `length` bytes: by sharing them where possible, else on a thread of its own. Resolves to false when the kernel cannot (another kind of file
 * system, the source ended early); then some of the range may have been copied.
 *
 * @throws SystemCallError ENOSPC, EIO and the like
 */
export async function copyFileRange(
  sourceFd: number,
  sourceOffset: number,
  targetFd: number,
  targetOffset: number,
  length: number,
): Promise<boolean> {
  const native = libc();
  if (native === undefined) return false;
  if (cloneFileRange(sourceFd, sourceOffset, targetFd, targetOffset, length)) return true;
  // The kernel advances both offsets; the arrays live as long as the call.
  const source = BigInt64Array.of(BigInt(sourceOffset));
  const target = BigInt64Array.of(BigInt(targetOffset));
  for (let left = length; left > 0; ) {
    const piece = Math.min(left, COPY_PIECE);
    const copied = await native.copyFileRangeAsync(sourceFd, source, targetFd, target, piece, 0);
    if (copied === 0) return false;
    if (copied > 0) left -= copied;
    else if (isUnsupported(-copied)) return false;
    else if (-copied !== EINTR && -copied !== EAGAIN) throw new SystemCallError('copy_file_range', -copied);
  }
  return true;
}

/**
 * Lets the target range share the source range's storage, in the same tick. Returns false where the file system
 * cannot, or the ranges are not aligned to its blocks.
 *
 * @throws SystemCallError ENOSPC, EIO and the like
 */
export function cloneFileRange(
  sourceFd: number,
  sourceOffset: number,
  targetFd: number,
  targetOffset: number,
  length: number,
): boolean {
  const native = libc();
  if (native === undefined) return false;
  // struct file_clone_range: source descriptor, source offset, length, target offset.
  const range = BigInt64Array.of(
    BigInt(sourceFd),
    BigInt(sourceOffset),
    BigInt(length),
    BigInt(targetOffset),
  );
  if (native.ioctl(targetFd, FICLONERANGE, new Uint8Array(range.buffer)) === 0) return true;
  const errno = native.errno();
  if (isUnsupported(errno)) return false;
  throw new SystemCallError('ioctl FICLONERANGE', errno);
}

function isUnsupported(errno: number): boolean {
  return [EXDEV, EINVAL, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM].includes(errno);
}
