/**
 * Where control sockets are: `PID.sock` in a folder of the user's that nobody else may enter.
 *
 * Who holds a disk is told by its lock, whose holder's process ID names the socket. Server and client may have been
 * started with different environments, so a server takes the first folder that it can have, and a client looks in each.
 * A folder counts only when it is a real folder (no symbolic link), belongs to the user and is closed to all others
 * (0700): in /tmp anybody could have made one of that name before.
 */
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { fromSystemError, VimgError } from '../base/errors.ts';

/** Bytes of a Unix socket's path (unix(7): 108 with the NUL). */
const SOCKET_PATH_MAX = 107;
const LONGEST_NAME = '4194304.sock';
const OTHERS = 0o077;

/** Folders that may hold the user's control sockets, the best first. */
export function controlFolders(
  environment: Readonly<Record<string, string | undefined>>,
  uid: number,
): string[] {
  const { XDG_RUNTIME_DIR: runtime } = environment;
  const folders = [
    ...(runtime !== undefined && isAbsolute(runtime) ? [join(runtime, 'vimg')] : []),
    `/run/user/${uid}/vimg`,
    ...(uid === 0 ? ['/run/vimg'] : []),
    `/tmp/vimg-${uid}`,
  ];
  return folders.filter((folder) => Buffer.byteLength(join(folder, LONGEST_NAME)) <= SOCKET_PATH_MAX);
}

/**
 * The path at which this process listens; its folder is made, and rid of sockets whose processes are gone.
 *
 * @throws VimgError `READ_ONLY` when no folder can be had that is the user's alone
 */
export async function ownControlPath(folders: readonly string[], uid: number): Promise<string> {
  let why: unknown;
  for (const folder of folders) {
    try {
      await mkdir(folder, { mode: 0o700 }).catch(ifExists);
      if (await isPrivate(folder, uid)) {
        await sweep(folder);
        return join(folder, `${process.pid}.sock`);
      }
      why ??= new VimgError('READ_ONLY', "The folder is not the user's alone", { path: folder });
    } catch (error) {
      why ??= error;
    }
  }
  throw fromSystemError(why, { op: 'make a folder for the control socket' });
}

/** Control sockets of a process: none where it listens at none. */
export async function controlPathsOf(
  pid: number,
  folders: readonly string[],
  uid: number,
): Promise<string[]> {
  const paths: string[] = [];
  for (const folder of folders) {
    if (!(await isPrivate(folder, uid).catch(() => false))) continue;
    const path = join(folder, `${pid}.sock`);
    if ((await lstat(path).catch(() => undefined))?.isSocket()) paths.push(path);
  }
  return paths;
}

async function isPrivate(folder: string, uid: number): Promise<boolean> {
  const found = await lstat(folder);
  return found.isDirectory() && found.uid === uid && (found.mode & OTHERS) === 0;
}

/** Removes sockets of processes that were killed. */
async function sweep(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = Number(/^(\d+)\.sock$/.exec(name)?.[1]);
    if (Number.isInteger(pid) && !isAlive(pid)) await rm(join(folder, name), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function ifExists(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
