/**
 * Making changes of names durable, and replacing a file so that a crash leaves the old or the new one, never a mix.
 *
 * A new name is durable once its folder was synced (fsync(2)); rename(2) replaces atomically. Hence: write a
 * temporary file beside the target, sync it, rename it over the target, sync the folder.
 */
import { randomBytes } from 'node:crypto';
import { chmod, chown, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoName } from './libc.ts';

/** Bytes of a file name on Linux file systems (NAME_MAX). */
const NAME_MAX = 255;

/** Makes the names in a folder durable. File systems that cannot sync a folder do it by themselves. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } catch (error) {
    if (errnoName(error) !== 'EINVAL') throw error;
  } finally {
    await handle.close();
  }
}

/** A name for a temporary file beside `path`: hidden, never used before, and telling what it belongs to. */
export function temporaryPath(path: string): string {
  const ending = `.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  let name = basename(path);
  while (Buffer.byteLength(name) + ending.length + 1 > NAME_MAX) name = name.slice(0, -1);
  return join(dirname(path), `.${name}${ending}`);
}

/** Renames, replacing what has the new name, and makes that durable. Both names lie on one file system. */
export async function renameDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
  if (dirname(from) !== dirname(to)) await syncFolder(dirname(from));
}

/**
 * Replaces the content of `path`, or makes the file: after a crash at any moment it holds the old content or the new,
 * and after this resolved, the new. A symbolic link stays and its target is replaced; mode and owner stay.
 *
 * @throws what `node:fs` throws; the temporary file is removed then
 */
export async function replaceFile(path: string, content: Uint8Array | string): Promise<void> {
  const old = await stat(path).catch(ifMissing);
  const target = old === undefined ? path : await realpath(path);
  const temporary = temporaryPath(target);
  try {
    const handle = await open(temporary, 'wx', old === undefined ? 0o644 : 0o600);
    try {
      await handle.writeFile(content);
      if (old !== undefined) {
        await chown(temporary, old.uid, old.gid).catch(ifNotPermitted);
        await chmod(temporary, old.mode & 0o7777);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renameDurably(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

function ifMissing(error: unknown): undefined {
  if (errnoName(error) !== 'ENOENT') throw error;
}

/** Giving a file away takes privileges; without them the new file belongs to who wrote it, as with any editor. */
function ifNotPermitted(error: unknown): void {
  if (errnoName(error) !== 'EPERM') throw error;
}
