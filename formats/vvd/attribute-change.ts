/** Reading and changing the attributes of a file, and the path under which it knows its parent. */
import { VimgError } from '../../src/base/errors.ts';
import { openFile } from '../../src/device/files.ts';
import type { AttributeChange } from '../../src/image/lifecycle.ts';
import { type AttributeValue, readAttributes, stageAttributes } from './attributes.ts';
import { openForChange, realDisk } from './disk-file.ts';
import { CLONES_ATTRIBUTE, cloneRecord } from './family.ts';
import { readHeader, setHeaderText, writeHeader } from './header.ts';
import { provisioningName } from './info.ts';
import type { VvdLayer } from './layer.ts';

/** Attributes with a meaning, and the type of each. Others are named `x-…` and are strings. */
const BUILT_IN: Readonly<Record<string, 'string' | 'boolean'>> = {
  label: 'string',
  description: 'string',
  persistent: 'boolean',
  shared: 'boolean',
  independent: 'boolean',
};

/** All attributes, those that follow from the header included. */
export async function listAttributes(path: string): Promise<Map<string, AttributeValue>> {
  const file = await openFile(path, { readOnly: true });
  try {
    const header = await readHeader(file);
    const attributes = new Map<string, AttributeValue>([
      ['provisioning', provisioningName(header.provisioning)],
    ]);
    for (const [key, value] of await readAttributes(file, header)) attributes.set(key, value);
    return attributes;
  } finally {
    await file.close();
  }
}

/**
 * Sets attributes (a text) and removes them (undefined), all at once.
 *
 * @throws VimgError `USAGE` for unknown names and wrong types, `LIMIT`, `LOCKED`
 */
export async function changeAttributes(path: string, change: AttributeChange): Promise<void> {
  await storeAttributes(path, typedChange(change));
}

/** As {@link changeAttributes}, of a layer that is open for writing and has nothing under way. */
export async function changeOpenAttributes(layer: VvdLayer, change: AttributeChange): Promise<void> {
  const typed = typedChange(change);
  layer.vvdWriter?.throwFailure();
  await applyChange(layer, typed);
}

/** Tells the top of a disk in use, which has nothing under way, of a clone that is to stand on it. */
export async function recordOpenClone(layer: VvdLayer, base: string, clone: string): Promise<void> {
  layer.vvdWriter?.throwFailure();
  const change = cloneRecord(base, clone, layer.attributes.get(CLONES_ATTRIBUTE));
  if (change) await applyChange(layer, change);
}

function typedChange(change: AttributeChange): Map<string, AttributeValue | undefined> {
  const typed = new Map<string, AttributeValue | undefined>();
  for (const [key, text] of change) typed.set(key, text === undefined ? undefined : typedValue(key, text));
  return typed;
}

/** Stores values as they are, without the rules for names. */
export async function storeAttributes(
  path: string,
  change: ReadonlyMap<string, AttributeValue | undefined>,
): Promise<void> {
  const disk = await openForChange(await realDisk(path), { allowSealed: true, keepContentId: true });
  try {
    await applyChange(disk.layer, change);
  } finally {
    await disk.file.close();
  }
}

/** When the header cannot be written nobody knows which attributes are on disk: the layer refuses to go on then. */
async function applyChange(
  layer: VvdLayer,
  change: ReadonlyMap<string, AttributeValue | undefined>,
): Promise<void> {
  const attributes = new Map(layer.attributes);
  for (const [key, value] of change) {
    if (value === undefined) attributes.delete(key);
    else attributes.set(key, value);
  }
  await stageAttributes(layer.file, layer.header, attributes);
  try {
    await writeHeader(layer.file, layer.header);
  } catch (error) {
    throw layer.metadata.fail(error);
  }
  layer.attributes.clear();
  for (const [key, value] of attributes) layer.attributes.set(key, value);
}

function typedValue(key: string, text: string): AttributeValue {
  if (key.startsWith('x-')) return text;
  const type = BUILT_IN[key];
  if (type === undefined) {
    throw new VimgError('USAGE', `'${key}' is not an attribute that can be set`, {
      hint: `these can: ${Object.keys(BUILT_IN).join(', ')}, and any name that starts with x-`,
    });
  }
  if (type === 'string') return text;
  if (text === 'true' || text === 'on') return true;
  if (text === 'false' || text === 'off') return false;
  throw new VimgError('USAGE', `'${key}' is true or false, not '${text}'`);
}

/** The parent is found at `stored` from now on; who it must be does not change. */
export async function changeParentPath(path: string, stored: string): Promise<void> {
  const disk = await openForChange(await realDisk(path), { allowSealed: true, keepContentId: true });
  try {
    const { header } = disk.layer;
    header.parentPathLength = setHeaderText(header.parentPath, stored, 'The path of the parent');
    await writeHeader(disk.file, header);
  } finally {
    await disk.file.close();
  }
}
