/**
 * The folder for locks and sockets of volumes: the user's alone, and the same for every process of the user, whatever
 * environment it was started with.
 */
import { existsSync } from 'node:fs';
import { lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fromSystemError, VimgError } from '../base/errors.ts';
import { errnoName } from '../host/libc.ts';

const OTHERS = 0o077;

/** @throws VimgError `READ_ONLY` when there is none that only this user may use */
export async function runtimeFolder(): Promise<string> {
  const uid = process.getuid?.() ?? 0;
  const session = `/run/user/${uid}`;
  const path = uid === 0 ? '/run/vimg' : existsSync(session) ? join(session, 'vimg') : `/tmp/vimg-${uid}`;
  try {
    await mkdir(path, { mode: 0o700 }).catch((error: unknown) => {
      if (errnoName(error) !== 'EEXIST') throw error;
    });
    const found = await lstat(path);
    if (found.isDirectory() && found.uid === uid && (found.mode & OTHERS) === 0) return path;
  } catch (error) {
    throw fromSystemError(error, { op: 'make a folder for sockets', path });
  }
  throw new VimgError('READ_ONLY', "The folder for sockets is not the user's alone", {
    path,
    hint: `remove it, or: chmod 700 ${path}`,
  });
}
