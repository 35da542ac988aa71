/**
 * Reads that never wait for the disk: `preadv2` with `RWF_NOWAIT` (preadv2(2)).
 *
 * A server reads this way on its event loop: cached data arrives in the same tick, and what is not cached is fetched
 * by the thread pool, so that one slow disk does not hold up every client.
 */
import { EAGAIN, EINTR, EINVAL, ENOSYS, EOPNOTSUPP, libc, SystemCallError } from './libc.ts';

const RWF_NOWAIT = 0x8;

/** The data is not in memory: read it another way. */
export const WOULD_WAIT = -1;
/** This file or kernel has no such reads: do not try again. */
export const NOT_SUPPORTED = -2;

/** One `iovec`: address and length (readv(2)). Filled before each call, read by the kernel during it. */
const VECTOR: BigUint64Array = new BigUint64Array(2);

/**
 * Reads what is cached at `position`. Returns the bytes read, which may be fewer than asked, 0 at the end of the
 * file, {@link WOULD_WAIT} or {@link NOT_SUPPORTED}.
 */
export function readNowait(fd: number, buffer: Uint8Array, position: number): number {
  const native = libc();
  if (native === undefined) return NOT_SUPPORTED;
  VECTOR[0] = native.address(buffer);
  VECTOR[1] = BigInt(buffer.length);
  const count = native.preadv2(fd, VECTOR, 1, position, RWF_NOWAIT);
  if (count >= 0) return count;
  const errno = native.errno();
  if (errno === EAGAIN || errno === EINTR) return WOULD_WAIT;
  if (errno === EOPNOTSUPP || errno === ENOSYS || errno === EINVAL) return NOT_SUPPORTED;
  throw new SystemCallError('preadv2', errno);
}
