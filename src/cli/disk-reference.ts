/**
 * How a disk is named on the command line: a host file, or a snapshot of one (`disk.vvd@before`), a path in a
 * datastore (`ds1:vm1/root.vvd`), or an NBD export (`nbd://…`). A file with a colon in its name is written `./ds1:x`.
 */
import { VimgError } from '../base/errors.ts';
import { fileExists } from '../device/files.ts';
import { datastorePath } from './datastores.ts';

export interface DiskReference {
  readonly path: string;
  readonly snapshot?: string;
}

/** What Node makes of bytes that are no character: the name that was meant is not known any more. */
const NOT_UTF8 = '\ufffd';
const NBD = /^nbds?(\+unix)?:/i;
/** An operand, or the value of an option. */
const NBD_ARGUMENT = /^(?:[^:=]*=)?nbds?(\+unix)?:/i;
const JSON_NAME = /^json:/i;
/** A protocol of other tools. */
const PROTOCOL = /^([A-Za-z][A-Za-z0-9+.-]+):\/\//;

/**
 * Lets NBD URIs be paths when a command line has any: options that take folders take them before a disk is opened.
 *
 * @returns ends the connections to them
 */
export async function mountNamedExports(args: readonly string[]): Promise<() => Promise<void>> {
  if (!args.some((arg) => NBD_ARGUMENT.test(arg))) return () => Promise.resolve();
  return (await import('../nbd/client/nbd-files.ts')).mountAndKeepExports();
}

/**
 * The file that a name means, for a disk that is made or that takes no snapshot.
 *
 * @throws VimgError `UNSUPPORTED` for other protocols, `NOT_FOUND` for a datastore that this host does not know, `USAGE`
 *   for a name that is empty or not UTF-8, and for a wrong URI
 */
export async function filePath(name: string): Promise<string> {
  if (name === '') throw new VimgError('USAGE', 'The name of a disk is empty');
  if (name.includes(NOT_UTF8)) {
    throw new VimgError('USAGE', `'${name}': the name is not valid UTF-8`, {
      hint: 'give the file another name, or reach it through a symbolic link',
    });
  }
  if (name.startsWith('file:')) return name.slice('file:'.length);
  if (JSON_NAME.test(name)) {
    throw new VimgError('UNSUPPORTED', `'${name}': json: names are not supported`, { hint: 'name a file' });
  }
  if (NBD.test(name)) return (await import('../nbd/client/nbd-files.ts')).nbdPath(name);
  const protocol = PROTOCOL.exec(name)?.[1];
  if (protocol !== undefined) {
    throw new VimgError('UNSUPPORTED', `'${name}': disks are not read over ${protocol}`, {
      hint: `for a file of that name write ./${name}`,
    });
  }
  return (await datastorePath(name)) ?? name;
}

/**
 * The disk that a name means. A name that is a file's is that file, `@` or not; else what stands behind the last `@`
 * is a snapshot, when what stands before it is a file.
 */
export async function diskReference(name: string): Promise<DiskReference> {
  const path = await filePath(name);
  // No look whether the export is there: a server that takes one client would have served it by that.
  if (NBD.test(name)) return { path };
  const at = path.lastIndexOf('@');
  if (at <= 0 || at === path.length - 1 || (await isThere(path)) || !(await isThere(path.slice(0, at)))) {
    return { path };
  }
  return { path: path.slice(0, at), snapshot: path.slice(at + 1) };
}

async function isThere(path: string): Promise<boolean> {
  try {
    return await fileExists(path);
  } catch {
    return false; // a folder that may not be read: opening the file says so
  }
}
