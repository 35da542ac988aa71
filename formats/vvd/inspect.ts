/**
 * Every structure of a VVD file, as much as can be read of a damaged one.
 *
 * Nothing is trusted: each structure is read on its own, and one that cannot be read says so and hides no other. When
 * no header is usable the file is searched for pages, which say themselves what they are.
 */
import { LIMITS } from '../../src/base/limits.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { InspectedStructure } from '../../src/image/format-driver.ts';
import { decodeAttributes, readAttributes } from './attributes.ts';
import { geometryProblem, type HeaderCopy, readHeaderCopies } from './header.ts';
import { decodeOr, pageHeaderFields, readPageBytes, stateOf } from './inspect-page.ts';
import { inspectTables } from './inspect-tables.ts';
import { headPages, readSlot, slotOffset, transactionProblem } from './journal.ts';
import {
  freeExtentLayout,
  type Header,
  headerLayout,
  PAGE,
  PAGE_CHECKSUM,
  PAGE_HEADER,
  PAGE_MAGIC,
  PAGE_SPACE,
  spaceHeadLayout,
  transactionHeadLayout,
} from './layout.ts';
import { pageGeneration, pageIndex, pageProblem, pageType, pageUuid } from './page.ts';
import { readSpaceList } from './space-list.ts';

/** Names of page types. */
const TYPE_NAMES: readonly string[] = ['', 'directory', 'table', 'space', 'checksum', 'journal'];
/** Free extents, and pages of a transaction, shown one by one. */
const SHOWN = 64;

/** Yields structures in the order: header copies, attributes, journal, space list, directory, tables, checksums. */
export async function* inspectVvd(file: BlockDevice): AsyncGenerator<InspectedStructure> {
  const copies = await readHeaderCopies(file);
  for (const copy of copies) yield await inspectHeader(file, copy);
  const [header] = copies.flatMap((copy) => copy.header ?? []).sort((a, b) => b.generation - a.generation);
  if (!header || geometryProblem(header, LIMITS.offset) !== undefined) {
    yield* searchPages(file);
    return;
  }
  yield await inspectAttributes(file, header);
  for (const slot of [0, 1] as const) yield await inspectSlot(file, header, slot);
  yield* inspectSpace(file, header);
  yield* inspectTables(file, header);
  yield* inspectChecksums(file, header);
}

async function inspectHeader(file: BlockDevice, copy: HeaderCopy): Promise<InspectedStructure> {
  const { offset, header, problem } = copy;
  const structure = { name: `header copy at ${offset}`, offset, length: PAGE };
  const state = header ? (geometryProblem(header, file.size) ?? 'ok') : (problem ?? 'damaged');
  const page = header ? undefined : await readPageBytes(file, offset);
  let decoded = header;
  try {
    decoded ??= page && headerLayout.decode(page);
  } catch (error) {
    return { ...structure, state: `${state}; ${stateOf(error)}`, fields: {} };
  }
  return { ...structure, state, fields: decoded ? headerFields(decoded) : {} };
}

/** Texts as text, and names of features by bit. */
function headerFields(header: Header): Record<string, unknown> {
  const text = (field: Uint8Array, length: number): string =>
    Buffer.from(field.subarray(0, Math.min(length, field.length))).toString('utf8');
  return {
    ...header,
    parentFormat: header.parentFormat.replace(/\0.*$/s, ''),
    parentPath: text(header.parentPath, header.parentPathLength),
    snapshotName: text(header.snapshotName, header.snapshotNameLength),
    intentName: text(header.intentName, header.intentNameLength),
    groupPath: text(header.groupPath, header.groupPathLength),
    featureNames: listedFeatures(header.featureNames),
    reserved: header.reserved.every((byte) => byte === 0) ? 'zero' : 'not zero',
  };
}

function listedFeatures(table: Uint8Array): string[] {
  const sets = ['incompatible', 'read-only-compatible', 'compatible'];
  const names: string[] = [];
  for (let at = 0; at < table.length; at += 32) {
    const name = Buffer.from(table.subarray(at + 2, at + 32))
      .toString('latin1')
      .replace(/\0.*$/s, '');
    if (name !== '') names.push(`${sets[table[at] as number] ?? table[at]} ${table[at + 1]}: ${name}`);
  }
  return names;
}

async function inspectAttributes(file: BlockDevice, header: Header): Promise<InspectedStructure> {
  const offset = header.attributesOffset + header.attributesSlot * header.attributesSlotPages * PAGE;
  const length = header.attributesLength;
  const structure = { name: `attributes, slot ${header.attributesSlot}`, offset, length };
  try {
    return { ...structure, state: 'ok', fields: Object.fromEntries(await readAttributes(file, header)) };
  } catch (error) {
    const state = stateOf(error);
    return { ...structure, state, fields: await damagedAttributes(file, offset, length) };
  }
}

/** What can still be decoded although the checksum does not match. */
async function damagedAttributes(
  file: BlockDevice,
  offset: number,
  length: number,
): Promise<Record<string, unknown>> {
  const bytes = new Uint8Array(Math.max(0, Math.min(length, file.size - offset)));
  try {
    await file.pread(bytes, offset);
    return { computedCrc: crc32c(bytes), ...Object.fromEntries(decodeAttributes(bytes)) };
  } catch (error) {
    return { problem: stateOf(error) };
  }
}

async function inspectSlot(file: BlockDevice, header: Header, slot: 0 | 1): Promise<InspectedStructure> {
  const offset = slotOffset(header, slot);
  const length = header.journalSlotPages * PAGE;
  const structure = { name: `journal slot ${slot}`, offset, length };
  try {
    const transaction = await readSlot(file, header, slot);
    if (!transaction) return { ...structure, ...(await brokenSlot(file, offset)) };
    const { sequence, images } = transaction;
    const problem = transactionProblem(header, transaction);
    const needed = sequence > header.sequence ? 'newer than what is in place' : 'in place';
    const pages = images.slice(0, SHOWN).map(({ home, page }) => `${pageName(page)} for ${home}`);
    const fields = { sequence, images: images.length, headPages: headPages(images.length), needed, pages };
    return { ...structure, state: problem ?? 'ok', fields };
  } catch (error) {
    return { ...structure, state: stateOf(error), fields: {} };
  }
}

async function brokenSlot(
  file: BlockDevice,
  offset: number,
): Promise<Pick<InspectedStructure, 'state' | 'fields'>> {
  const page = await readPageBytes(file, offset);
  if (!page || page.every((byte) => byte === 0)) return { state: 'empty', fields: {} };
  const fields = {
    ...pageHeaderFields(page),
    ...decodeOr(() => transactionHeadLayout.decode(page, PAGE_HEADER)),
  };
  return { state: 'no whole transaction', fields };
}

function pageName(page: Uint8Array): string {
  return `${TYPE_NAMES[pageType(page)] ?? 'unknown'} page ${pageIndex(page)}`;
}

async function* inspectSpace(file: BlockDevice, header: Header): AsyncGenerator<InspectedStructure> {
  let listState = 'ok';
  try {
    await readSpaceList(file, header);
  } catch (error) {
    listState = stateOf(error);
  }
  for (let index = 0; index < header.spacePages; index++) {
    const offset = header.spaceOffset + index * PAGE;
    const page = await readPageBytes(file, offset);
    if (!page || (index > 0 && page.every((byte) => byte === 0))) continue;
    const problem = pageProblem(page, { type: PAGE_SPACE, index, diskUuid: header.diskUuid, place: offset });
    yield {
      name: `space list page ${index}`,
      offset,
      length: PAGE,
      state: problem ?? (index === 0 ? listState : 'ok'),
      fields: { ...pageHeaderFields(page), ...spaceFields(page, index) },
    };
  }
}

function spaceFields(page: Uint8Array, index: number): Record<string, unknown> {
  const fields = index === 0 ? decodeOr(() => spaceHeadLayout.decode(page, PAGE_HEADER)) : {};
  const { reserved: _reserved, directoriesWritten, ...head } = fields;
  const free: string[] = [];
  const first = PAGE_HEADER + (index === 0 ? spaceHeadLayout.size : 0);
  for (let at = first; at < PAGE && free.length < SHOWN; at += freeExtentLayout.size) {
    const extent = decodeOr(() => freeExtentLayout.decode(page, at));
    if (extent['length'] === 0) break;
    free.push(`${extent['length']} bytes at ${extent['place']}`);
  }
  const written =
    directoriesWritten instanceof Uint8Array ? { directoriesWritten: bitsSet(directoriesWritten) } : {};
  return { ...head, ...written, free };
}

/** Indexes of the bits that are set. */
function bitsSet(map: Uint8Array): number[] {
  const set: number[] = [];
  for (let bit = 0; bit < map.length * 8 && set.length < SHOWN; bit++) {
    if ((((map[bit >>> 3] as number) >>> (bit & 7)) & 1) === 1) set.push(bit);
  }
  return set;
}

async function* inspectChecksums(file: BlockDevice, header: Header): AsyncGenerator<InspectedStructure> {
  if (header.checksumOffset === 0) return;
  for (let index = 0; index < header.checksumPages; index++) {
    const offset = header.checksumOffset + index * PAGE;
    const page = await readPageBytes(file, offset);
    if (!page) return;
    if (page.every((byte) => byte === 0)) continue; // none of its blocks is stored
    const problem = pageProblem(page, {
      type: PAGE_CHECKSUM,
      index,
      diskUuid: header.diskUuid,
      place: offset,
    });
    const view = new DataView(page.buffer);
    let checksums = 0;
    for (let at = PAGE_HEADER; at < PAGE; at += 4) if (view.getUint32(at, true) !== 0) checksums++;
    yield {
      name: `checksum page ${index}`,
      offset,
      length: PAGE,
      state: problem ?? 'ok',
      fields: { ...pageHeaderFields(page), checksums },
    };
  }
}

/** Without a header: every page in the file that says what it is. */
async function* searchPages(file: BlockDevice): AsyncGenerator<InspectedStructure> {
  const magic = Buffer.from(PAGE_MAGIC, 'latin1');
  for (let offset = 2 * PAGE; offset + PAGE <= file.size; offset += PAGE) {
    const extent = await file.status(offset, file.size - offset);
    if (extent.zero && extent.length >= PAGE) {
      offset += Math.floor(extent.length / PAGE - 1) * PAGE;
      continue;
    }
    const page = await readPageBytes(file, offset);
    if (!page || !magic.equals(page.subarray(0, magic.length))) continue;
    const fields = pageHeaderFields(page);
    const expected = {
      type: pageType(page),
      index: pageIndex(page),
      diskUuid: pageUuid(page),
      place: offset,
      generation: pageGeneration(page),
    };
    const state = pageProblem(page, expected) ?? 'ok';
    yield { name: pageName(page), offset, length: PAGE, state, fields };
  }
}
