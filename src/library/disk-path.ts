/**
 * What a program may give for the path of a disk: a path of the host or of a mounted place, or the URI of an NBD export.
 *
 * The client of NBD is loaded when a URI is given first; from then on such URIs are paths for the whole process.
 */
import { DiskImage, type OpenDiskOptions } from '../image/disk-image.ts';

const NBD = /^nbds?(\+unix)?:/i;

/**
 * The path that is meant; nobody is connected to for that.
 *
 * @throws VimgError `USAGE` for a wrong URI
 */
export async function diskPath(path: string): Promise<string> {
  return NBD.test(path) ? (await import('../nbd/client/nbd-files.ts')).nbdPath(path) : path;
}

/** @throws VimgError see {@link diskPath} */
export async function diskPaths(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) found.push(await diskPath(path));
  return found;
}

/**
 * Opens the disk of a path or URI.
 *
 * @throws VimgError what {@link DiskImage.open} throws, and `USAGE` for a wrong URI
 */
export async function openDisk(path: string, options: OpenDiskOptions): Promise<DiskImage> {
  return DiskImage.open(await diskPath(path), options);
}
