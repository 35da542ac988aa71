/** The allocation table of a VVD file for `vimg inspect`: directory pages, and table pages with what they map. */
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { InspectedStructure } from '../../src/image/format-driver.ts';
import {
  allocatedOf,
  entryAt,
  KIND_COMPRESSED,
  KIND_DATA,
  KIND_UNALLOCATED,
  KIND_ZERO,
  kindOf,
  placeOf,
} from './entry.ts';
import { pageHeaderFields, readPageBytes } from './inspect-page.ts';
import { ENTRIES, ENTRY, type Header, PAGE, PAGE_DIRECTORY, PAGE_HEADER, PAGE_TABLE } from './layout.ts';
import { getU64, pageProblem } from './page.ts';

/** Directory pages in order, each followed by the table pages that it names. */
export async function* inspectTables(file: BlockDevice, header: Header): AsyncGenerator<InspectedStructure> {
  for (let index = 0; index < header.directoryPages; index++) {
    const place = header.directoryOffset + index * PAGE;
    const page = await readPageBytes(file, place);
    if (!page || page.every((byte) => byte === 0)) continue; // never written: maps nothing
    const problem = pageProblem(page, { type: PAGE_DIRECTORY, index, diskUuid: header.diskUuid, place });
    const view = new DataView(page.buffer);
    const tables: number[] = [];
    for (let slot = 0; slot < ENTRIES; slot++) {
      if (getU64(view, PAGE_HEADER + slot * ENTRY) !== 0) tables.push(slot);
    }
    yield {
      name: `directory page ${index}`,
      offset: place,
      length: PAGE,
      state: problem ?? 'ok',
      fields: { ...pageHeaderFields(page), tables: tables.length },
    };
    for (const slot of tables) yield await inspectTable(file, header, index * ENTRIES + slot, view, slot);
  }
}

async function inspectTable(
  file: BlockDevice,
  header: Header,
  index: number,
  directory: DataView,
  slot: number,
): Promise<InspectedStructure> {
  const at = PAGE_HEADER + slot * ENTRY;
  const place = getU64(directory, at);
  const generation = getU64(directory, at + 8);
  const structure = { name: `table page ${index}`, offset: place, length: PAGE };
  const page = place % PAGE === 0 ? await readPageBytes(file, place) : undefined;
  if (!page)
    return { ...structure, state: 'its place is impossible, or cannot be read', fields: { generation } };
  const expected = { type: PAGE_TABLE, index, diskUuid: header.diskUuid, place, generation };
  const fields = { ...pageHeaderFields(page), ...summary(header, index, page) };
  return { ...structure, state: pageProblem(page, expected) ?? 'ok', fields };
}

/** What the entries of a page are, in numbers. */
function summary(header: Header, index: number, page: Uint8Array): Record<string, unknown> {
  const view = new DataView(page.buffer, page.byteOffset, PAGE);
  const kinds = { unallocated: 0, data: 0, compressed: 0, zero: 0, unknown: 0 };
  let subBlocks = 0;
  let compressedBytes = 0;
  let lowest = Number.POSITIVE_INFINITY;
  let highest = 0;
  for (let slot = 0; slot < ENTRIES; slot++) {
    const at = entryAt(slot);
    const kind = kindOf(view, at);
    kinds[nameOf(kind)]++;
    const place = placeOf(view, at);
    if (kind === KIND_DATA) subBlocks += bitCount(allocatedOf(view, at));
    if (kind === KIND_COMPRESSED) compressedBytes += allocatedOf(view, at);
    if (place <= 0) continue;
    lowest = Math.min(lowest, place);
    highest = Math.max(highest, place);
  }
  const guestOffset = index * ENTRIES * 2 ** header.blockShift;
  const places = highest > 0 ? { lowestPlace: lowest, highestPlace: highest } : {};
  return { guestOffset, ...kinds, storedSubBlocks: subBlocks, compressedBytes, ...places };
}

function nameOf(kind: number): 'unallocated' | 'data' | 'compressed' | 'zero' | 'unknown' {
  switch (kind) {
    case KIND_UNALLOCATED:
      return 'unallocated';
    case KIND_DATA:
      return 'data';
    case KIND_COMPRESSED:
      return 'compressed';
    case KIND_ZERO:
      return 'zero';
    default:
      return 'unknown';
  }
}

function bitCount(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}
