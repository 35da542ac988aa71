/**
 * Finding a parent by who it is, when it is not where its child says: chains get moved.
 *
 * The order: the stored path; a file of that name beside the child; any file beside the child with the right
 * identity. Only the first bytes of candidates are read.
 */
import { isVimgError } from '../base/errors.ts';
import { folderOf, joinPath, nameOf } from '../device/file-path.ts';
import { fileIdentity, fileStatus, listFolder, openFile } from '../device/files.ts';
import { closedGate, resolveReference } from './gate-policies.ts';
import type { BackingReference, Layer } from './layer.ts';
import { probeFormat } from './probe.ts';
import type { FormatRegistry } from './registry.ts';

/** Files looked at in one folder before a search gives up. */
const FOLDER_LIMIT = 10_000;

/** The path of the parent when it is not at its stored place; undefined to use the stored one. */
export async function findByIdentity(
  child: Layer,
  reference: BackingReference,
  formats: FormatRegistry,
): Promise<string | undefined> {
  if (!reference.byIdentity || reference.path.includes('\0')) return undefined;
  const from = child.file.name;
  // Whether it is there is not asked of a server: the gate comes first.
  if ((await fileIdentity(resolveReference(reference.path, from))) !== undefined) return undefined;
  return searchFolder(folderOf(from), reference, formats);
}

/**
 * Looks through one folder for the file that `reference` means.
 *
 * @returns its path, or undefined
 */
export async function searchFolder(
  folder: string,
  reference: BackingReference,
  formats: FormatRegistry,
): Promise<string | undefined> {
  const named = nameOf(reference.path);
  const names = (await listFolder(folder)).slice(0, FOLDER_LIMIT);
  names.sort((a, b) => Number(b === named) - Number(a === named));
  for (const name of names) {
    const path = joinPath(folder, name);
    if (await isMeant(path, reference, formats)) return path;
  }
  return undefined;
}

async function isMeant(path: string, reference: BackingReference, formats: FormatRegistry): Promise<boolean> {
  const status = await fileStatus(path);
  if (status?.kind !== 'file' || !reference.matches) return false;
  const file = await openFile(path, { readOnly: true });
  try {
    const { driver } = await probeFormat(file, formats);
    const layer = await driver.open(file, { readOnly: true, gate: closedGate });
    return layer.identity !== undefined && reference.matches(layer.identity);
  } catch (error) {
    if (isVimgError(error)) return false; // not an image, or a damaged one: not the parent
    throw error;
  } finally {
    await file.close();
  }
}
