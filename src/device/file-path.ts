/**
 * Paths of files, on the host and in mounted places (`ds1:vm1/root.vvd`). The root of a place is written `ds1:`; its
 * `..` is itself, so that no path leads out of it. A path in a place without folders is taken as it is; seen from there, an
 * absolute path is one of the host.
 */
import { basename, dirname, isAbsolute, join, posix, relative, resolve, sep } from 'node:path';
import { isFlatPath, placeOf } from './mounts.ts';

interface Placed {
  readonly place: string;
  /** Absolute inside the place, without `.` and `..`. */
  readonly inner: string;
}

/** In a place with folders. */
function placed(path: string): Placed | undefined {
  const place = placeOf(path);
  if (place === undefined || isFlatPath(path)) return undefined;
  return { place, inner: posix.resolve('/', path.slice(place.length + 1)) };
}

function written({ place, inner }: Placed): string {
  return `${place}:${inner.slice(1)}`;
}

/** The folder that a file is in. Where there are no folders: the file, which is all that can be seen from there. */
export function folderOf(path: string): string {
  if (isFlatPath(path)) return path;
  const found = placed(path);
  return found ? written({ ...found, inner: posix.dirname(found.inner) }) : dirname(path);
}

/** The last part of a path; empty for the root of a place. */
export function nameOf(path: string): string {
  if (isFlatPath(path)) return path;
  const found = placed(path);
  return found ? posix.basename(found.inner) : basename(path);
}

/** A name (or a relative path) in a folder. */
export function joinPath(folder: string, name: string): string {
  if (isFlatPath(folder)) return `${folder}/${name}`;
  const found = placed(folder);
  return found ? written({ ...found, inner: posix.join(found.inner, name) }) : join(folder, name);
}

/** Whether a path means the same from every folder: absolute on the host, or in a mounted place. */
export function isWholePath(path: string): boolean {
  return isAbsolute(path) || placeOf(path) !== undefined;
}

/** What `path` means, seen from `folder`: a whole path. */
export function resolvePath(folder: string, path: string): string {
  if (isFlatPath(path)) return path;
  if (isFlatPath(folder)) return isWholePath(path) ? resolvePath(sep, path) : joinPath(folder, path);
  const own = placed(path);
  if (own) return written(own);
  const from = placed(folder);
  if (!from || isAbsolute(path)) return resolve(folder, path);
  return written({ ...from, inner: posix.resolve(from.inner, path) });
}

/** How `path` is written as seen from `folder`; whole when both are in different places. Empty for the folder itself. */
export function relativePath(folder: string, path: string): string {
  if (isFlatPath(path)) return path;
  const from = placed(folder);
  const to = placed(path);
  if (isFlatPath(folder)) return to ? written(to) : resolve(path);
  if (from?.place !== to?.place) return to ? written(to) : resolve(path);
  if (from && to) return posix.relative(from.inner, to.inner);
  const found = relative(folder, path);
  return COLON_FIRST.test(found) ? `./${found}` : found;
}

/** A file's name that would read as that of a place or a protocol. */
const COLON_FIRST = /^[^/]*:/;

/** Whether a path lies below a folder; both without symbolic links. */
export function isBelow(path: string, folder: string): boolean {
  if (isFlatPath(path) || isFlatPath(folder)) return false;
  const inside = placed(path);
  const outside = placed(folder);
  if (inside?.place !== outside?.place) return false;
  const [whole, start] = inside && outside ? [inside.inner, outside.inner] : [path, folder];
  return whole.startsWith(start.endsWith(sep) ? start : start + sep);
}
