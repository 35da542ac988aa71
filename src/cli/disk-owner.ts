/** Disks that are served: what may not be done beside the serving process, that process does. */
import { resolve } from 'node:path';
import { isVimgError, VimgError } from '../base/errors.ts';
import type { DiskOwner } from '../serving/disk-owner.ts';
import type { Context } from './verb.ts';

/**
 * Does the work here; when another process has the disk locked and does for others what they ask, there. Looks for
 * such a process only when the disk is found locked: other work does not pay for it.
 *
 * @param disk the path of the disk, or of several
 * @throws VimgError what `here` threw when there is no such process, else what `there` threw
 */
export async function hereOrThere<T>(
  context: Context,
  disk: string | readonly string[],
  here: () => Promise<T>,
  there: (owner: DiskOwner) => Promise<T>,
): Promise<T> {
  try {
    return await here();
  } catch (error) {
    if (!isVimgError(error, 'LOCKED')) throw error;
    const paths = typeof disk === 'string' ? [disk] : disk;
    const owner = await findOwner(paths, context.environment);
    if (!owner) throw error;
    try {
      return await there(owner);
    } catch (failure) {
      throw inWordsOf(failure, paths);
    } finally {
      owner.close();
    }
  }
}

/**
 * For what cannot be done while a disk is in use, although its owner answers.
 *
 * @param what `return to a snapshot of`
 */
export function refuseServed(what: string, path: string): (owner: DiskOwner) => Promise<never> {
  return ({ pid }) =>
    Promise.reject(
      new VimgError('LOCKED', `Could not ${what} '${path}': process ${pid} serves it`, {
        path,
        hint: 'stop what uses the disk, end `vimg serve`, and do it then',
      }),
    );
}

/** @throws VimgError `UNSUPPORTED` when the disks have several owners: none of them can do it for all */
async function findOwner(
  paths: readonly string[],
  environment: Context['environment'],
): Promise<DiskOwner | undefined> {
  const { DiskOwner } = await import('../serving/disk-owner.ts');
  let found: DiskOwner | undefined;
  for (const path of paths) {
    const owner = await DiskOwner.find(path, environment);
    if (!owner) continue;
    if (!found) {
      found = owner;
      continue;
    }
    owner.close();
    if (owner.pid === found.pid) continue;
    found.close();
    throw new VimgError(
      'UNSUPPORTED',
      `The disks are served by different processes: ${found.pid}, ${owner.pid}`,
      {
        hint: 'serve them by one: vimg serve DISK DISK…; or do it one by one',
      },
    );
  }
  return found;
}

/** Its owner knows a disk by its whole path, the user by the name that was given. */
function inWordsOf(error: unknown, paths: readonly string[]): unknown {
  const given = isVimgError(error) ? paths.find((path) => resolve(path) === error.path) : undefined;
  return isVimgError(error) && given !== undefined ? error.about(given) : error;
}
