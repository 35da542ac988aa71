/**
 * Where each structure of a VVD image is, and which fields it has, from the declared layouts: what a hostile image can
 * lie about. After a change every checksum is put right, as a hostile image's are.
 */
import { attributeHeadLayout } from '../../formats/vvd/attributes.ts';
import { entryAt, kindOf } from '../../formats/vvd/entry.ts';
import { readHeader } from '../../formats/vvd/header.ts';
import { readSlot } from '../../formats/vvd/journal.ts';
import {
  directoryEntryLayout,
  ENTRIES,
  freeExtentLayout,
  HEADER_OFFSETS,
  type Header,
  HOME_OFFSET,
  headerLayout,
  PAGE,
  PAGE_DIRECTORY,
  PAGE_HEADER,
  PAGE_SPACE,
  PAGE_TABLE,
  pageHeaderLayout,
  spaceHeadLayout,
  tableEntryLayout,
  transactionHeadLayout,
} from '../../formats/vvd/layout.ts';
import { pageType } from '../../formats/vvd/page.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import type { Layout } from '../../src/binary/layout.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { readPage, tablePlaces } from '../formats/vvd/sample-image.ts';

export type StructureKind =
  | 'header'
  | 'attributes'
  | 'directory'
  | 'table'
  | 'space'
  | 'checksum'
  | 'journal';

export interface FieldPlace {
  readonly name: string;
  /** In the structure. */
  readonly at: number;
  readonly size: number;
}

export interface Structure {
  readonly kind: StructureKind;
  /** Which of its kind. Header: 0 both copies, 1 and 2 one of them. */
  readonly nth: number;
  /** Where it is; the same bytes are changed at each. */
  readonly places: readonly number[];
  readonly length: number;
  readonly fields: readonly FieldPlace[];
}

/** How many entries or extents of a page are worth a case for each of their fields. */
const SAMPLES = 3;

/** The structures of an intact image. */
export async function structuresOf(file: MemoryDevice): Promise<Structure[]> {
  const header = await readHeader(file);
  const structures: Structure[] = [...headers(), attributes(header)];
  const page = async (kind: StructureKind, nth: number, place: number): Promise<void> => {
    const fields = pageFields(await readPage(file, place));
    structures.push({ kind, nth, places: [place], length: PAGE, fields });
  };
  for (let i = 0; i < header.directoryPages; i++)
    await page('directory', i, header.directoryOffset + i * PAGE);
  for (const [i, { place }] of (await tablePlaces(file)).entries()) await page('table', i, place);
  await page('space', 0, header.spaceOffset);
  for (let i = 0; i < header.checksumPages; i++) await page('checksum', i, header.checksumOffset + i * PAGE);
  for (const slot of [0, 1] as const) structures.push(...(await journalSlot(file, header, slot)));
  return structures;
}

function headers(): Structure[] {
  const fields = fieldsOf(headerLayout, 0).filter(({ name }) => name !== 'header crc');
  return [HEADER_OFFSETS, [HEADER_OFFSETS[0]], [HEADER_OFFSETS[1]]].map((places, nth) => ({
    kind: 'header',
    nth,
    places,
    length: PAGE,
    fields,
  }));
}

function attributes(header: Header): Structure {
  const place = header.attributesOffset + header.attributesSlot * header.attributesSlotPages * PAGE;
  const head = fieldsOf(attributeHeadLayout, 4).filter(
    (field) => field.at + field.size <= header.attributesLength,
  );
  const fields = [{ name: 'attribute count', at: 0, size: 4 }, ...head];
  return { kind: 'attributes', nth: 0, places: [place], length: header.attributesLength, fields };
}

/** A journal slot and the page images in it; none when the slot is empty. */
async function journalSlot(file: MemoryDevice, header: Header, slot: 0 | 1): Promise<Structure[]> {
  const found = await readSlot(file, header, slot);
  if (!found) return [];
  const place = header.journalOffset + slot * header.journalSlotPages * PAGE;
  const headPages = new DataView((await readPage(file, place)).buffer).getUint32(PAGE_HEADER + 4, true);
  const fields = [
    ...fieldsOf(pageHeaderLayout, 0).filter(({ name }) => name !== 'page header crc'),
    ...fieldsOf(transactionHeadLayout, PAGE_HEADER),
  ];
  const seen = new Set<number>();
  for (const [i, { page }] of found.images.entries()) {
    const type = pageType(page);
    if (seen.has(type)) continue; // one image of each type
    seen.add(type);
    fields.push({ name: 'home', at: PAGE_HEADER + transactionHeadLayout.size + i * HOME_OFFSET, size: 8 });
    for (const field of pageFields(page)) fields.push({ ...field, at: (headPages + i) * PAGE + field.at });
  }
  const length = (headPages + found.images.length) * PAGE;
  return [{ kind: 'journal', nth: slot, places: [place], length, fields }];
}

function fieldsOf<T>(layout: Layout<T>, at: number): FieldPlace[] {
  return layout.rows.map((row) => ({
    name: `${layout.name} ${row.field}`,
    at: at + row.offset,
    size: row.size,
  }));
}

/** The fields of a metadata page: its head, and some of its entries, of every kind there is in it. */
function pageFields(page: Uint8Array): FieldPlace[] {
  const head = fieldsOf(pageHeaderLayout, 0).filter(({ name }) => name !== 'page header crc');
  const view = new DataView(page.buffer, page.byteOffset, PAGE);
  switch (pageType(page)) {
    case PAGE_DIRECTORY:
      return [...head, ...samples(directoryEntryLayout, PAGE_HEADER)];
    case PAGE_TABLE:
      return [...head, ...entryFields(view)];
    case PAGE_SPACE: {
      const at = PAGE_HEADER + spaceHeadLayout.size;
      return [...head, ...fieldsOf(spaceHeadLayout, PAGE_HEADER), ...samples(freeExtentLayout, at)];
    }
    default:
      return [...head, { name: 'checksum', at: PAGE_HEADER, size: 4 }];
  }
}

function samples<T>(layout: Layout<T>, at: number): FieldPlace[] {
  return Array.from({ length: SAMPLES }, (_, i) => fieldsOf(layout, at + i * layout.size)).flat();
}

/** The first entry of each kind; its place also as one field of 8 bytes. */
function entryFields(view: DataView): FieldPlace[] {
  const seen = new Set<number>();
  const fields: FieldPlace[] = [];
  for (let slot = 0; slot < ENTRIES; slot++) {
    const at = entryAt(slot);
    const kind = kindOf(view, at);
    if (seen.has(kind)) continue;
    seen.add(kind);
    fields.push({ name: 'table entry place', at, size: 8 }, ...fieldsOf(tableEntryLayout, at));
  }
  return fields;
}

/** Puts the checksums of a changed structure right: those of the images in it, then its own. */
export function correctChecksums(kind: StructureKind, bytes: Uint8Array): void {
  if (kind === 'attributes') return; // theirs is in the header
  if (kind === 'header') {
    stamp(bytes, PAGE - 4);
    return;
  }
  if (kind === 'journal') {
    const head = new DataView(bytes.buffer, bytes.byteOffset).getUint32(PAGE_HEADER + 4, true);
    for (let at = Math.max(1, head) * PAGE; at < bytes.length; at += PAGE) {
      stamp(bytes.subarray(at, at + PAGE), PAGE_HEADER - 4);
    }
  }
  stamp(bytes, PAGE_HEADER - 4);
}

function stamp(bytes: Uint8Array, crcAt: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint32(crcAt, 0, true);
  view.setUint32(crcAt, crc32c(bytes), true);
}
