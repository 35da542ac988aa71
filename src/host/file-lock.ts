/**
 * Locks on image files, byte for byte as QEMU takes them, so that vimg and QEMU's tools refuse each other.
 *
 * A user of an image says which permissions it uses and which it does not grant to others. Each permission is a bit:
 * 0 consistent read, 1 write, 2 write unchanged, 3 resize. For permission `i`, byte 100+i is locked by who uses it,
 * and byte 200+i by who does not share it. All locks are shared ones, so the bytes of several users pile up; having
 * taken its own, each tests whether a byte that contradicts them is held by someone else, and gives up if so.
 *
 * What QEMU 7.2 takes, seen in /proc/locks: a writer of qcow2 100, 101, 103 and 201, 203; a reader 100 and 201, 203.
 * The modes below take the same, for every format. The locks are open file description locks (fcntl(2)): they belong
 * to the open file, go with its last descriptor, and two opens conflict even inside one process.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SystemCallError } from './libc.ts';
import { isHeldByOthers, isRefusal, isUnsupported, LOCK, setByteLock } from './ofd-lock.ts';

/** `read` keeps writers out and lets readers in; `write` keeps everyone out; `none` holds nothing. */
export type LockMode = 'none' | 'read' | 'write';

/** What came of an attempt. */
export type LockResult =
  | { readonly state: 'locked' }
  /** The file system or the machine has no such locks: the file is open without one. */
  | { readonly state: 'unsupported' }
  /** Someone else holds a contradicting byte. */
  | { readonly state: 'refused'; readonly byte: number };

const USED = 100;
const UNSHARED = 200;

const CONSISTENT_READ = 0;
const WRITE = 1;
const RESIZE = 3;
const PERMISSIONS = 4;

interface Permissions {
  readonly used: readonly number[];
  readonly unshared: readonly number[];
}

const PERMISSIONS_OF: Readonly<Record<LockMode, Permissions>> = {
  none: { used: [], unshared: [] },
  read: { used: [CONSISTENT_READ], unshared: [WRITE, RESIZE] },
  write: { used: [CONSISTENT_READ, WRITE, RESIZE], unshared: [WRITE, RESIZE] },
};

/** Lock bytes that say that someone uses the file, whatever the mode: for naming the holder. */
export const LOCK_BYTES: { readonly first: number; readonly last: number } = {
  first: USED,
  last: UNSHARED + PERMISSIONS - 1,
};

/** What someone who has locked these bytes of an image does with it; `none` when none is a lock byte of QEMU's. */
export function lockModeOf(bytes: readonly number[]): LockMode {
  if (bytes.includes(USED + WRITE) || bytes.includes(USED + RESIZE)) return 'write';
  return bytes.some((byte) => byte >= LOCK_BYTES.first && byte <= LOCK_BYTES.last) ? 'read' : 'none';
}

/** QEMU's tools hold locks for moments (an `info` of a disk that is being opened): try again before refusing. */
const ATTEMPTS = 5;
const PAUSE_MS = 15;

/**
 * Changes the lock that the open file holds from one mode to another. A refused change leaves it as it was.
 *
 * @throws SystemCallError when the kernel fails otherwise
 */
export async function changeFileLock(fd: number, from: LockMode, to: LockMode): Promise<LockResult> {
  for (let attempt = 1; ; attempt++) {
    const result = tryChange(fd, from, to);
    if (result.state !== 'refused' || attempt === ATTEMPTS) return result;
    // Two that start together refuse each other: pauses of different length let one of them through.
    await sleep(PAUSE_MS * (0.5 + Math.random()));
  }
}

function tryChange(fd: number, from: LockMode, to: LockMode): LockResult {
  const held = bytesOf(from);
  const wanted = bytesOf(to);
  const taken: number[] = [];
  for (const byte of wanted) {
    if (held.includes(byte)) continue;
    const errno = setByteLock(fd, LOCK.shared, byte);
    if (errno === 0) {
      taken.push(byte);
      continue;
    }
    release(fd, taken);
    if (isUnsupported(errno)) return { state: 'unsupported' };
    if (isRefusal(errno)) return { state: 'refused', byte };
    throw new SystemCallError('fcntl', errno);
  }
  const conflict = findConflict(fd, PERMISSIONS_OF[to]);
  if (conflict !== undefined) {
    release(fd, taken);
    return { state: 'refused', byte: conflict };
  }
  release(
    fd,
    held.filter((byte) => !wanted.includes(byte)),
  );
  return { state: 'locked' };
}

function bytesOf(mode: LockMode): number[] {
  const { used, unshared } = PERMISSIONS_OF[mode];
  return [...used.map((i) => USED + i), ...unshared.map((i) => UNSHARED + i)];
}

/** A byte, held by another open of the file, that contradicts what is used or not shared here. */
function findConflict(fd: number, { used, unshared }: Permissions): number | undefined {
  const contradicting = [...used.map((i) => UNSHARED + i), ...unshared.map((i) => USED + i)];
  return contradicting.find((byte) => isHeldByOthers(fd, byte));
}

function release(fd: number, bytes: readonly number[]): void {
  for (const byte of bytes) setByteLock(fd, LOCK.none, byte);
}
