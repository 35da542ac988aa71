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

const COMMAND_LENGTH_MAX = 200;

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
