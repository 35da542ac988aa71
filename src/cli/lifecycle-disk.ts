/** Disks whose format keeps snapshots as layers (vvd): the way from a name on the command line to what they can do. */
import { formats } from '../../formats/index.ts';
import { VimgError } from '../base/errors.ts';
import type { Lifecycle, LifecycleContext } from '../image/lifecycle.ts';
import { driverOf } from '../image/snapshot.ts';
import { filePath } from './disk-reference.ts';
import { type Access, knownFormat } from './open-disk.ts';

export interface LifecycleDisk {
  readonly path: string;
  readonly lifecycle: Lifecycle;
}

/**
 * The disk that a name means, for what only such formats can do.
 *
 * @param what the work, for the refusal: `take a snapshot of`
 * @throws VimgError `UNSUPPORTED` for another format
 */
export async function lifecycleDisk(
  name: string,
  format: string | undefined,
  what: string,
): Promise<LifecycleDisk> {
  const path = await filePath(name);
  const driver = await driverOf(path, formats, knownFormat(format, path));
  if (driver.lifecycle !== undefined) return { path, lifecycle: driver.lifecycle };
  const why = `${driver.name} images do not have that in this release`;
  throw new VimgError('UNSUPPORTED', `Could not ${what} '${path}': ${why}`, {
    hint: `convert it first: vimg convert ${path} new.vvd`,
  });
}

export function lifecycleContext(access: Access): LifecycleContext {
  return { formats, allow: access.allow, allowAny: access.allowAny };
}
