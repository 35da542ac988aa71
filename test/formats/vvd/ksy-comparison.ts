import { expect } from 'vitest';
import { readAttributes } from '../../../formats/vvd/attributes.ts';
import { readStored } from '../../../formats/vvd/block-checksums.ts';
import { decompressBlock } from '../../../formats/vvd/compression.ts';
import {
  allocatedOf,
  entryAt,
  KIND_COMPRESSED,
  KIND_DATA,
  kindOf,
  placeOf,
  runLength,
  zeroOf,
} from '../../../formats/vvd/entry.ts';
import { readHeader, readHeaderCopies } from '../../../formats/vvd/header.ts';
import { readSlot, slotOffset, type Transaction } from '../../../formats/vvd/journal.ts';
import {
  CHECKSUMS,
  directoryEntryLayout,
  ENTRIES,
  type Header,
  headerLayout,
  PAGE,
  PAGE_DIRECTORY,
  PAGE_HEADER,
  PAGE_TABLE,
  pageHeaderLayout,
  tableEntryLayout,
  transactionHeadLayout,
} from '../../../formats/vvd/layout.ts';
import { pageProblem, pageType } from '../../../formats/vvd/page.ts';
import { readSpaceList } from '../../../formats/vvd/space-list.ts';
import { formatUuid } from '../../../src/binary/uuid.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type {
  ParsedDirectoryEntry,
  ParsedEntry,
  ParsedHeader,
  ParsedPageHeader,
  ParsedSlot,
  ParsedText,
  ParsedVvd,
} from './parsed-vvd.ts';

/** Compares everything. The image must be whole in place, but for what `torn` names. */
export async function compare(
  parse: (image: Uint8Array) => ParsedVvd,
  image: Uint8Array,
  torn: readonly ('header' | 'pages')[] = [],
): Promise<void> {
  const file = MemoryDevice.from(image);
  const parsed = parse(image);
  const header = await readHeader(file);
  await compareHeaders(file, parsed, torn.includes('header'));
  await compareAttributes(file, parsed, header);
  for (const slot of [0, 1] as const) await compareSlot(file, parsed, header, slot);
  if (torn.includes('pages')) return;
  await compareSpaceList(file, parsed, header);
  const written = (await readSpaceList(file, header)).directoriesWritten;
  expect(parsed.directory.length).toBe(header.directoryPages);
  for (const [index, directory] of parsed.directory.entries()) {
    const isWritten = (((written[index >>> 3] as number) >>> (index & 7)) & 1) === 1;
    expect(directory.isWritten).toBe(isWritten);
    if (!isWritten) continue;
    const place = header.directoryOffset + index * PAGE;
    const page = await readPage(file, place);
    expect(
      pageProblem(page, { type: PAGE_DIRECTORY, index, diskUuid: header.diskUuid, place }),
    ).toBeUndefined();
    comparePageHeader(directory.header, page);
    compareDirectory(directory.body?.entries ?? [], page);
    for (const [slot, entry] of (directory.body?.entries ?? []).entries()) {
      await compareTable(file, header, index * ENTRIES + slot, entry);
    }
  }
  await compareChecksums(file, parsed, header);
}

async function readPage(file: MemoryDevice, place: number): Promise<Uint8Array> {
  const page = new Uint8Array(PAGE);
  await file.pread(page, place);
  return page;
}

/** Names here are in one case, there in another. */
async function compareHeaders(file: MemoryDevice, parsed: ParsedVvd, torn: boolean): Promise<void> {
  const copies = await readHeaderCopies(file);
  for (const [i, copy] of copies.entries()) {
    if (copy.header) compareHeader(parsed.headerCopies[i] as ParsedHeader, copy.header);
    else expect(torn).toBe(true);
  }
  if (!torn) compareHeader(parsed.header, await readHeader(file));
  expect(parsed.blockSize).toBe(2 ** (await readHeader(file)).blockShift);
}

function compareHeader(parsed: ParsedHeader, header: Header): void {
  const lengths: Readonly<Record<string, number>> = {
    parentPath: header.parentPathLength,
    snapshotName: header.snapshotNameLength,
    intentName: header.intentNameLength,
    groupPath: header.groupPathLength,
  };
  for (const { field, type } of headerLayout.rows) {
    const expected = header[field as keyof Header];
    const found = parsed[field];
    if (field in lengths) {
      const text = Buffer.from((expected as Uint8Array).subarray(0, lengths[field])).toString('utf8');
      expect((found as ParsedText).text).toBe(text);
      expect((found as ParsedText).padding.every((byte) => byte === 0)).toBe(true);
    } else if (field === 'featureNames') {
      compareFeatures(parsed, expected as Uint8Array);
    } else if (type === 'uuid') {
      expect(formatUuid((found as { bytes: Uint8Array }).bytes)).toBe(expected);
    } else if (expected instanceof Uint8Array) {
      expect(Buffer.compare(found as Uint8Array, expected)).toBe(0);
    } else {
      const text = typeof expected === 'string' ? expected.replace(/\0.*$/s, '') : expected;
      expect({ [field]: found }).toEqual({ [field]: text });
    }
  }
}

function compareFeatures(parsed: ParsedHeader, table: Uint8Array): void {
  for (const [i, { set, bit, name }] of parsed.featureNames.entries()) {
    const row = table.subarray(i * 32, (i + 1) * 32);
    const text = Buffer.from(row.subarray(2)).toString('latin1').replace(/\0.*$/s, '');
    expect([set, bit, name]).toEqual([row[0], row[1], text]);
  }
}

async function compareAttributes(file: MemoryDevice, parsed: ParsedVvd, header: Header): Promise<void> {
  const typeNames = ['', 'string', 'number', 'boolean'];
  const found = parsed.attributes.attributes.map(({ key, value, type }) => [key, value, typeNames[type]]);
  const expected = [...(await readAttributes(file, header))];
  expect(found).toEqual(expected.map(([key, value]) => [key, String(value), typeof value]));
}

async function compareSlot(
  file: MemoryDevice,
  parsed: ParsedVvd,
  header: Header,
  slot: 0 | 1,
): Promise<void> {
  const found = slot === 0 ? parsed.journalSlot0 : parsed.journalSlot1;
  const transaction = await readSlot(file, header, slot);
  if (!transaction) return;
  const first = await readPage(file, slotOffset(header, slot));
  comparePageHeader(found?.header, first);
  expect(found?.isFilled).toBe(true);
  const { imageCount, headPages } = transactionHeadLayout.decode(first, PAGE_HEADER);
  expect(found?.head).toMatchObject({ imageCount, headPages });
  expect(found?.header.index).toBe(transaction.sequence);
  compareImages(found as ParsedSlot, transaction);
}

function compareImages(found: ParsedSlot, { images }: Transaction): void {
  expect(found.homes).toEqual(images.map(({ home }) => home));
  for (const [i, { page }] of images.entries()) {
    const image = found.images[i];
    comparePageHeader(image?.header, page);
    const body = image?.body;
    if (body instanceof Uint8Array || !body) {
      expect(Buffer.compare(body ?? new Uint8Array(), page.subarray(PAGE_HEADER))).toBe(0);
    } else if (pageType(page) === PAGE_TABLE) {
      for (const [slot, entry] of body.entries.entries()) compareEntry(entry as ParsedEntry, page, slot);
    } else {
      compareDirectory(body.entries as readonly ParsedDirectoryEntry[], page);
    }
  }
}

function comparePageHeader(found: ParsedPageHeader | undefined, page: Uint8Array): void {
  const { magic, diskUuid, reserved, ...expected } = pageHeaderLayout.decode(page);
  expect(found).toMatchObject({ ...expected, magic: Buffer.from(magic, 'latin1').readUInt32LE() });
  expect(formatUuid(found?.diskUuid.bytes as Uint8Array)).toBe(diskUuid);
  expect(Buffer.compare(found?.reserved as Uint8Array, reserved)).toBe(0);
}

async function compareSpaceList(file: MemoryDevice, parsed: ParsedVvd, header: Header): Promise<void> {
  const { free, directoriesWritten, ...head } = await readSpaceList(file, header);
  const found = parsed.spaceList;
  comparePageHeader(found.header, await readPage(file, header.spaceOffset));
  expect(found.head).toMatchObject(head);
  expect(Buffer.compare(Uint8Array.from(found.head.directoriesWritten), directoriesWritten)).toBe(0);
  const extents = [...found.firstExtents, ...found.morePages.flatMap((page) => page.extents)];
  expect(extents.map(({ place, length }) => ({ place, length }))).toEqual(free);
  for (const [i, page] of found.morePages.entries()) {
    comparePageHeader(page.header, await readPage(file, header.spaceOffset + (i + 1) * PAGE));
  }
}

function compareDirectory(entries: readonly ParsedDirectoryEntry[], page: Uint8Array): void {
  expect(entries.length).toBe(ENTRIES);
  for (const [slot, { place, generation }] of entries.entries()) {
    expect({ place, generation }).toEqual(directoryEntryLayout.decode(page, entryAt(slot)));
  }
}

async function compareTable(
  file: MemoryDevice,
  header: Header,
  index: number,
  directoryEntry: ParsedDirectoryEntry,
): Promise<void> {
  const { place, generation, table } = directoryEntry;
  if (place === 0) {
    expect(table).toBeUndefined();
    return;
  }
  const page = await readPage(file, place);
  const expected = { type: PAGE_TABLE, index, diskUuid: header.diskUuid, place, generation };
  expect(pageProblem(page, expected)).toBeUndefined();
  comparePageHeader(table?.header, page);
  expect(table?.body.entries.length).toBe(ENTRIES);
  for (const [slot, entry] of (table?.body.entries ?? []).entries()) {
    compareEntry(entry, page, slot);
    await compareBlock(file, header, page, slot, entry);
  }
}

function compareEntry(entry: ParsedEntry, page: Uint8Array, slot: number): void {
  const view = new DataView(page.buffer, page.byteOffset);
  const at = entryAt(slot);
  const { low, high, allocated, zero, kind, place } = entry;
  expect({ low, high, allocated, zero }).toEqual(tableEntryLayout.decode(page, at));
  expect([kind, place, allocated, zero]).toEqual([
    kindOf(view, at),
    placeOf(view, at),
    allocatedOf(view, at),
    zeroOf(view, at),
  ]);
}

/** What is stored for a block, as the driver reads it. */
async function compareBlock(
  file: MemoryDevice,
  header: Header,
  page: Uint8Array,
  slot: number,
  entry: ParsedEntry,
): Promise<void> {
  const view = new DataView(page.buffer);
  const at = entryAt(slot);
  const kind = kindOf(view, at);
  const blockSize = 2 ** header.blockShift;
  const allocated = allocatedOf(view, at);
  if (kind === KIND_COMPRESSED) {
    const stored = entry.compressed as Uint8Array;
    const block = await decompressBlock(stored, zeroOf(view, at), header.compression, blockSize, '');
    expect(block.length).toBe(blockSize);
  } else {
    expect(entry.compressed).toBeUndefined();
  }
  if (kind !== KIND_DATA || placeOf(view, at) === 0) {
    expect(entry.data).toBeUndefined();
    return;
  }
  const parts: Uint8Array[] = [];
  for (let first = 0; first < 32; first += runLength(allocated, first)) {
    const end = first + runLength(allocated, first);
    const unit = blockSize / 32;
    if (((allocated >>> first) & 1) === 1)
      parts.push((entry.data as Uint8Array).subarray(first * unit, end * unit));
  }
  const stored = await readStored(file, placeOf(view, at), allocated, blockSize);
  expect(Buffer.compare(Buffer.concat(parts), stored)).toBe(0);
}

async function compareChecksums(file: MemoryDevice, parsed: ParsedVvd, header: Header): Promise<void> {
  expect(parsed.checksums?.length).toBe(header.checksumState === 1 ? header.checksumPages : undefined);
  for (const [i, found] of (parsed.checksums ?? []).entries()) {
    const page = await readPage(file, header.checksumOffset + i * PAGE);
    const view = new DataView(page.buffer);
    if (!found.header.isPage) {
      expect(page.every((byte) => byte === 0)).toBe(true);
      continue;
    }
    comparePageHeader(found.header, page);
    const sums = Array.from({ length: CHECKSUMS }, (_, block) =>
      view.getUint32(PAGE_HEADER + block * 4, true),
    );
    expect(found.checksums).toEqual(sums);
  }
}
