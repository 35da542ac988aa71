/**
 * Gates for host files: which files an image header may make vimg open.
 *
 * The rules, in order: no NUL, no `json:`, no protocol; the path, with every symbolic link followed, names a regular
 * file; and it lies in (or below) a folder that the caller allows, unless the reference is checked by identity, where
 * a path alone opens nothing.
 *
 * The export of a server is opened when the caller allows that export itself, whatever else is allowed. It is opened by the
 * caller's URI and not by the header's, which might leave out the protection, or name files with keys; and until both are
 * known to mean one export, nobody is connected to.
 */
import { fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import { folderOf, isBelow, resolvePath } from '../device/file-path.ts';
import { fileIdentity, fileStatus, openFile, realPath } from '../device/files.ts';
import { placeOf } from '../device/mounts.ts';
import type { LockMode } from '../host/file-lock.ts';
import type { FileReference, Gate } from './gate.ts';

const NBD = /^nbds?(\+unix)?:/i;

export interface FolderGateOptions {
  /**
   * Folders in which (and below which) referenced files may lie, besides the folder of the image itself; and URIs of
   * exports that may be referred to.
   */
  readonly allow?: readonly string[];
  /** Allow any regular file. For callers that trust the image. */
  readonly any?: boolean;
  /** Lock mode for the files opened. */
  readonly lock?: LockMode;
  readonly blocking?: boolean;
}

/** A gate that opens nothing: what `info` uses. */
export const closedGate: Gate = (reference) => {
  return Promise.reject(
    new VimgError('UNSUPPORTED', `The image refers to another file, '${printable(reference.stored)}'`, {
      path: reference.from,
    }),
  );
};

/** A gate that opens regular files in allowed folders. */
export function folderGate(options: FolderGateOptions = {}): Gate {
  return async (reference) => {
    const path = await allowedPath(reference, options);
    return openFile(path, {
      readOnly: reference.readOnly,
      lock: options.lock ?? 'none',
      blocking: options.blocking ?? true,
    });
  };
}

/** The path that a stored reference names: relative to the folder of the file that names it. */
export function resolveReference(stored: string, from: string): string {
  return resolvePath(folderOf(from), stored);
}

async function allowedPath(reference: FileReference, options: FolderGateOptions): Promise<string> {
  const { stored, from } = reference;
  const shown = printable(stored);
  if (stored === '' || stored.length > LIMITS.referenceBytes || stored.includes('\0')) {
    throw new VimgError('INVALID_FORMAT', `Not a usable file name in the image header: '${shown}'`, {
      path: from,
    });
  }
  if (NBD.test(stored) || NBD.test(resolveReference(stored, from))) return allowedExport(reference, options);
  if (/^[A-Za-z][A-Za-z0-9+.-]*:/.test(stored) && placeOf(stored) === undefined) {
    throw new VimgError('UNSUPPORTED', `The image refers to '${shown}': only plain file names are followed`, {
      path: from,
    });
  }
  let path: string;
  try {
    path = await realPath(resolveReference(stored, from));
    if ((await fileStatus(path))?.kind !== 'file') {
      throw new VimgError('UNSUPPORTED', `The image refers to '${shown}', which is not a regular file`, {
        path: from,
      });
    }
  } catch (error) {
    throw fromSystemError(error, { op: 'open', path: resolveReference(stored, from) });
  }
  if (reference.byIdentity || options.any === true) return path;
  for (const folder of [folderOf(from), ...(options.allow ?? [])].filter((each) => !NBD.test(each))) {
    if (isBelow(path, await realFolder(folder))) return path;
  }
  throw new VimgError('UNSUPPORTED', `The image refers to '${shown}', outside the folders that are allowed`, {
    path: from,
    hint: `if you trust this image, allow it: --allow ${folderOf(path)}`,
  });
}

/** Only who gave the command may say to whom it connects. */
async function allowedExport(
  { stored, from }: FileReference,
  { allow = [] }: FolderGateOptions,
): Promise<string> {
  const wanted = await exportIdentity(resolveReference(stored, from));
  for (const uri of allow) {
    if (wanted !== undefined && NBD.test(uri) && (await fileIdentity(uri))?.identity === wanted) return uri;
  }
  const uri = wanted === undefined ? 'URI' : `'${await realPath(resolveReference(stored, from))}'`;
  throw new VimgError('UNSUPPORTED', `The image refers to '${printable(stored)}', the export of a server`, {
    path: from,
    hint: `if you trust this image and that server, allow it: --allow ${uri}`,
  });
}

/** Undefined for what is no URI, or when nobody named one: then this process has no such place. */
async function exportIdentity(uri: string): Promise<string | undefined> {
  if (placeOf(uri) === undefined) return undefined;
  try {
    return (await fileIdentity(uri))?.identity;
  } catch (error) {
    if (isVimgError(error)) return undefined;
    throw error;
  }
}

async function realFolder(folder: string): Promise<string> {
  try {
    return await realPath(folder);
  } catch (error) {
    throw fromSystemError(error, { op: 'look up an allowed folder', path: folder });
  }
}

/** A name from an untrusted header, safe to print: control characters escaped, cut at 200 characters. */
export function printable(text: string): string {
  const safe = text.replace(
    /[\u0000-\u001f\u007f-\u009f]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return safe.length > 200 ? `${safe.slice(0, 200)}…` : safe;
}
