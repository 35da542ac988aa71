/**
 * Which place a path is in.
 *
 * Like the mount table of an operating system there is one for the process, so that a path is a plain text
 * everywhere: in headers, in messages, in the arguments of a format. `ds1:vm1/root.vvd` is in the place that was
 * mounted as `ds1`; what starts with no mounted name is a file of the host.
 */
import { invariant, VimgError } from '../base/errors.ts';
import type { FileSystem } from './file-system.ts';
import { hostFiles } from './host-files.ts';

/** Two or more letters, so that `C:` is no place. */
const NAME = /^([A-Za-z][A-Za-z0-9_+-]+):/;

const mounts = new Map<string, FileSystem>();

/**
 * From now on `name:…` means files of this place.
 *
 * @returns ends that
 * @throws VimgError `EXISTS` when another place has the name
 */
export function mountFiles(name: string, files: FileSystem): () => void {
  invariant(NAME.test(`${name}:`), `'${name}' can be the name of a place`);
  if (mounts.has(name)) throw new VimgError('EXISTS', `There is a place named '${name}' already`);
  mounts.set(name, files);
  return () => {
    if (mounts.get(name) === files) mounts.delete(name);
  };
}

/** The name of the place that a path is in, when it is not the host. */
export function placeOf(path: string): string | undefined {
  const name = NAME.exec(path)?.[1];
  return name !== undefined && mounts.has(name) ? name : undefined;
}

/** Whether a path is in a place without folders. */
export function isFlatPath(path: string): boolean {
  return filesOf(path).isFlat ?? false;
}

/** The place that a path is in. */
export function filesOf(path: string): FileSystem {
  const name = placeOf(path);
  return (name === undefined ? undefined : mounts.get(name)) ?? hostFiles;
}
