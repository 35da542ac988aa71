/**
 * Open file description locks on single bytes of a file (fcntl(2)): they belong to the open file, go with its last
 * descriptor, however its process ended, and two opens conflict even inside one process.
 */
import { EACCES, EAGAIN, EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP, libc, SystemCallError } from './libc.ts';

/** F_RDLCK, F_WRLCK, F_UNLCK. */
export const LOCK = { shared: 0, exclusive: 1, none: 2 } as const;
export type ByteLock = (typeof LOCK)[keyof typeof LOCK];

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;

/** Sets, changes or clears the lock on one byte, at one instant. @returns 0 or the errno */
export function setByteLock(fd: number, type: ByteLock, byte: number): number {
  const native = libc();
  if (native === undefined) return ENOSYS;
  return native.fcntl(fd, F_OFD_SETLK, flock(type, byte)) === -1 ? native.errno() : 0;
}

/** Asks whether an exclusive lock could be had; the kernel answers with the lock in the way (F_OFD_GETLK). */
export function isHeldByOthers(fd: number, byte: number): boolean {
  const native = libc();
  if (native === undefined) return false;
  const question = flock(LOCK.exclusive, byte);
  if (native.fcntl(fd, F_OFD_GETLK, question) === -1) throw new SystemCallError('fcntl', native.errno());
  return new Int16Array(question.buffer, 0, 1)[0] !== LOCK.none;
}

/** Someone else holds a contradicting lock. */
export function isRefusal(errno: number): boolean {
  return errno === EAGAIN || errno === EACCES;
}

/** The file system or the machine has no such locks. */
export function isUnsupported(errno: number): boolean {
  return errno === EINVAL || errno === ENOLCK || errno === ENOSYS || errno === EOPNOTSUPP;
}

/** `struct flock` of 64-bit Linux: type, whence (0: from the start), start, length, and a pid that must be 0. */
function flock(type: ByteLock, byte: number): Uint8Array {
  const structure = new ArrayBuffer(32);
  new Int16Array(structure, 0, 1)[0] = type;
  new BigInt64Array(structure, 8, 2).set([BigInt(byte), 1n]);
  return new Uint8Array(structure);
}
