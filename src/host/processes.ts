/**
 * Who holds a lock: /proc tells (proc(5)).
 *
 * /proc/locks shows open file description locks without a process (its pid is −1). But each process lists, in
 * /proc/PID/fdinfo/FD, the locks of every file it has open; so the holder is found by looking for an open of the
 * same file, by device and inode, that carries a lock on one of the bytes. Processes of other users may be hidden.
 */
import { fstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';

/** A process that holds a lock. */
export interface LockHolder {
  readonly pid: number;
  /** The short name of its program: `qemu-io`. */
  readonly program: string;
  /** Its command line, as far as it can be read; at most 200 characters. */
  readonly command: string;
}

/** A process, and the lock that it holds on a file. */
export interface FileLock extends LockHolder {
  /** First bytes of the ranges that are locked. */
  readonly bytes: readonly number[];
  /** When the process started; the lock is not older. Undefined when /proc does not tell. */
  readonly startedMs: number | undefined;
}

const COMMAND_LENGTH_MAX = 200;
/** Clock ticks a second in /proc/PID/stat: USER_HZ, the same on every architecture that Node runs on. */
const TICKS = 100;

/**
 * Processes that hold a lock on a byte from `firstByte` to `lastByte` of the file that `fd` has open, other than
 * through `fd` itself. Empty when /proc does not tell. Takes milliseconds: meant for an error message.
 */
export function findLockHolders(fd: number, firstByte: number, lastByte: number): LockHolder[] {
  const file = fstatSync(fd, { bigint: true });
  const holders: LockHolder[] = [];
  for (const name of list('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const ownFd = pid === process.pid ? fd : undefined;
    if (!holdsLock(pid, file, firstByte, lastByte, ownFd)) continue;
    holders.push({ pid, program: readName(`/proc/${pid}/comm`), command: readCommand(pid) });
  }
  return holders;
}

/**
 * Every lock on a file that a process of this host holds, by the file's `device:inode`. Looks through all open files
 * of all processes that this user may look at.
 */
export function listFileLocks(): Map<string, FileLock[]> {
  const locks = new Map<string, FileLock[]>();
  for (const name of list('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    for (const [file, bytes] of locksOf(pid)) {
      const holder = { pid, program: readName(`/proc/${pid}/comm`), command: readCommand(pid) };
      locks.set(file, [...(locks.get(file) ?? []), { ...holder, bytes, startedMs: startOf(pid) }]);
    }
  }
  return locks;
}

/** The files that a process has locked, and the first bytes of each range. */
function locksOf(pid: number): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const name of list(`/proc/${pid}/fd`)) {
    const bytes = [...readText(`/proc/${pid}/fdinfo/${name}`).matchAll(LOCK_LINE)].map((line) =>
      Number(line[1]),
    );
    if (bytes.length === 0) continue;
    const file = identityOf(`/proc/${pid}/fd/${name}`);
    if (file !== undefined) found.set(file, [...(found.get(file) ?? []), ...bytes]);
  }
  return found;
}

/** A lock in fdinfo: `lock:\t1: OFDLCK ADVISORY READ -1 fe:00:12345 100 100`. */
const LOCK_LINE = /^lock:.*:\d+ (\d+) (?:\d+|EOF)$/gm;

function identityOf(link: string): string | undefined {
  try {
    const { dev, ino } = statSync(link, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined; // closed meanwhile
  }
}

/** Field 22 of /proc/PID/stat counts ticks since the machine started; the name before it may hold anything. */
function startOf(pid: number): number | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  const boot = Number(/^btime (\d+)$/m.exec(readText('/proc/stat'))?.[1]);
  return Number.isFinite(ticks + boot) ? boot * 1000 + (ticks * 1000) / TICKS : undefined;
}

function holdsLock(
  pid: number,
  file: { readonly dev: bigint; readonly ino: bigint },
  firstByte: number,
  lastByte: number,
  ownFd: number | undefined,
): boolean {
  const folder = `/proc/${pid}/fd`;
  for (const name of list(folder)) {
    if (Number(name) === ownFd || !isOpenOf(`${folder}/${name}`, file)) continue;
    for (const line of readText(`/proc/${pid}/fdinfo/${name}`).split('\n')) {
      const lock = /^lock:.*:\d+ (\d+) (\d+|EOF)$/.exec(line);
      if (lock === null) continue;
      const end = lock[2] === 'EOF' ? Number.POSITIVE_INFINITY : Number(lock[2]);
      if (Number(lock[1]) <= lastByte && end >= firstByte) return true;
    }
  }
  return false;
}

function isOpenOf(link: string, file: { readonly dev: bigint; readonly ino: bigint }): boolean {
  try {
    // Pipes and sockets are named `pipe:[…]`: only what has a path can be the file.
    if (!readlinkSync(link).startsWith('/')) return false;
    const found = statSync(link, { bigint: true });
    return found.dev === file.dev && found.ino === file.ino;
  } catch {
    return false; // closed meanwhile, or not ours to look at
  }
}

function readCommand(pid: number): string {
  const command = readName(`/proc/${pid}/cmdline`);
  return command.length > COMMAND_LENGTH_MAX ? `${command.slice(0, COMMAND_LENGTH_MAX)}…` : command;
}

/** A process chooses its own name: no control character of it may reach a terminal. NUL separates arguments. */
function readName(path: string): string {
  return readText(path)
    .replace(/\p{Cc}/gu, ' ')
    .trim();
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // the process ended, or belongs to another user
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // the process ended, or belongs to another user
  }
}
