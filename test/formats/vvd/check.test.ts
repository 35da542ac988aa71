/** Damaged headers, attributes, journals, space lists and data are found, and damage is never called a leak. */
import { describe, expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { encodeHeader, readHeader } from '../../../formats/vvd/header.ts';
import { HEADER_OFFSETS, PAGE } from '../../../formats/vvd/layout.ts';
import { sealPage, setU64 } from '../../../formats/vvd/page.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { BLOCK, cleanImage, editEntry, entryOf, expectOnly, SIZE } from './damaged-image.ts';
import {
  editHeader,
  editPage,
  flipBit,
  KiB,
  MiB,
  openDisk,
  readPage,
  sampleImage,
  tablePlaces,
} from './sample-image.ts';

describe('a check of damaged headers', () => {
  it.each(HEADER_OFFSETS)('finds a bad copy at %i', async (offset) => {
    const file = await cleanImage();
    await flipBit(file, offset + 100, 3);
    expectOnly(await checkVvd(file), 'header-copy', { fileOffset: offset });
  });

  it('finds a copy of another disk, and one that a write missed', async () => {
    const file = await cleanImage();
    const header = await readHeader(file);
    const other = { ...header, diskUuid: header.contentId, generation: header.generation - 1 };
    await file.pwrite(encodeHeader(other), HEADER_OFFSETS[other.generation % 2] as number);
    expectOnly(await checkVvd(file), 'header-copy', {});
    const stale = { ...header, generation: header.generation - 3 };
    await file.pwrite(encodeHeader(stale), HEADER_OFFSETS[stale.generation % 2] as number);
    expectOnly(await checkVvd(file), 'header-copy', {});
  });

  it('reports, and does not throw, when no copy is whole', async () => {
    const file = await cleanImage();
    for (const offset of HEADER_OFFSETS) await flipBit(file, offset + 100, 3);
    expectOnly(await checkVvd(file), 'header-copy', { fileOffset: 0 }, { fileOffset: PAGE });
  });

  it('refuses a file that is no image, and features that it does not know', async () => {
    const nothing = checkVvd(MemoryDevice.create(MiB));
    await expect(nothing).rejects.toMatchObject({ code: 'INVALID_FORMAT' });
    const file = await cleanImage();
    await editHeader(file, { incompatible: 0x80 });
    await expect(checkVvd(file)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('finds numbers that contradict each other', async () => {
    const file = await cleanImage();
    await editHeader(file, { spaceOffset: 12 * KiB });
    expectOnly(await checkVvd(file), 'header-contradiction', { fileOffset: 0 });
  });

  it('finds a name that is none', async () => {
    const file = await cleanImage();
    await editHeader(file, { parentPath: new Uint8Array(1024).fill(0xff), parentPathLength: 4 });
    expectOnly(await checkVvd(file), 'header-text', {});
  });

  it('goes on in a file that was cut short', async () => {
    const file = await cleanImage();
    file.resize((await readHeader(file)).directoryOffset);
    const report = await checkVvd(file);
    expect(report.findings.map(({ kind }) => kind)).toEqual(['file-truncated', 'directory-page']);
    expect(report.findings[1]?.guestRange).toEqual({ offset: 0, length: SIZE });
  });
});

describe('a check of damaged attributes and journals', () => {
  it('finds a bit flipped in the attributes', async () => {
    const file = await cleanImage();
    const { attributesOffset } = await readHeader(file);
    await flipBit(file, attributesOffset, 0);
    expectOnly(await checkVvd(file), 'attributes', { fileOffset: attributesOffset });
  });

  it('finds a transaction that writes where no metadata is', async () => {
    const { crashed } = await sampleImage(3, { steps: 30, compression: 'none' });
    const header = await readHeader(crashed);
    const edited = await editTransaction(crashed, (view, slot) =>
      setU64(view, slot + 80, header.journalOffset),
    );
    const report = await checkVvd(crashed);
    expect(report.findings).toMatchObject([{ kind: 'journal-transaction', fileOffset: edited }]);
  });

  it('finds a transaction newer than a closed image', async () => {
    const { crashed } = await sampleImage(3, { steps: 30, compression: 'none' });
    await editHeader(crashed, { state: 1 });
    const report = await checkVvd(crashed);
    expect(report.findings[0]).toMatchObject({ kind: 'journal-ahead' });
  });

  it('says which half of the journal the device does not read', async () => {
    const file = await cleanImage();
    const { journalOffset, journalSlotPages } = await readHeader(file);
    for (const slot of [0, 1]) {
      const fileOffset = journalOffset + slot * journalSlotPages * PAGE;
      const within = { offset: fileOffset, length: journalSlotPages * PAGE };
      const damaged = new FaultDevice(file.fork(), [{ on: 'read', sticky: true, within }]);
      const message = expect.stringContaining(`journal slot ${slot}`);
      expectOnly(await checkVvd(damaged), 'journal-unreadable', { fileOffset, message });
    }
  });

  it('sees an image that was not closed as its next open does, and changes nothing', async () => {
    const { crashed } = await sampleImage(4, { steps: 60, compression: 'none' });
    const [table] = await tablePlaces(crashed);
    const inJournal = await journaledHomes(crashed);
    expect(inJournal).toContain(table?.place);
    for (const home of inJournal) await crashed.pwrite(new Uint8Array(512).fill(7), home + 512);
    const before = crashed.snapshot();
    expect((await checkVvd(crashed)).findings).toEqual([]);
    expect(Buffer.compare(before, crashed.snapshot())).toBe(0);
    const disk = await openDisk(crashed);
    await disk.close();
    expect((await checkVvd(crashed)).findings).toEqual([]);
  });
});

/** Homes of the last transaction's images. */
async function journaledHomes(file: MemoryDevice): Promise<number[]> {
  const slot = await lastSlot(file);
  const view = new DataView((await readPage(file, slot)).buffer);
  return Array.from({ length: view.getUint32(64, true) }, (_, i) => view.getUint32(80 + i * 8, true));
}

async function lastSlot(file: MemoryDevice): Promise<number> {
  const { journalOffset, journalSlotPages } = await readHeader(file);
  const slots = [journalOffset, journalOffset + journalSlotPages * PAGE];
  const sequences = await Promise.all(
    slots.map(async (slot) => new DataView((await readPage(file, slot)).buffer).getUint32(8, true)),
  );
  return slots[(sequences[0] as number) > (sequences[1] as number) ? 0 : 1] as number;
}

/** Changes the last transaction; its checksum is over all its pages. @returns its place */
async function editTransaction(
  file: MemoryDevice,
  edit: (view: DataView, slot: number) => void,
): Promise<number> {
  const slot = await lastSlot(file);
  const head = new DataView((await readPage(file, slot)).buffer);
  const bytes = new Uint8Array((head.getUint32(64, true) + head.getUint32(68, true)) * PAGE);
  await file.pread(bytes, slot);
  edit(new DataView(bytes.buffer), 0);
  sealPage(bytes, head.getUint32(32, true));
  await file.pwrite(bytes, slot);
  return slot;
}

describe('a check of the space list', () => {
  it('finds a damaged list, and does not call everything leaked', async () => {
    const file = await cleanImage();
    const { spaceOffset } = await readHeader(file);
    await editPage(file, spaceOffset, (view) => view.setUint32(64 + 24, 1_000_000, true));
    expectOnly(await checkVvd(file), 'space-list', { fileOffset: spaceOffset });
  });

  it('finds used space that is listed free', async () => {
    const file = await cleanImage();
    const { spaceOffset } = await readHeader(file);
    const { place } = await entryOf(file, 7);
    await addFreeExtent(file, spaceOffset, place, 2 * BLOCK);
    expectOnly(await checkVvd(file), 'space-list-used', { fileOffset: place });
  });

  it('finds an end of the space that lies before blocks', async () => {
    const file = await cleanImage();
    const { spaceOffset } = await readHeader(file);
    const { place } = await entryOf(file, 99);
    await editPage(file, spaceOffset, (view) => {
      setU64(view, 64, place);
      view.setUint32(64 + 24, 0, true);
    });
    const report = await checkVvd(file);
    expect(new Set(report.findings.map(({ kind }) => kind))).toEqual(new Set(['space-list-used']));
  });

  it('calls space that nobody has a leak, and only that', async () => {
    const file = await cleanImage();
    const { place } = await entryOf(file, 7);
    await editEntry(file, 7, (view, at) => {
      for (let i = 0; i < 16; i++) view.setUint8(at + i, 0);
    });
    const report = await checkVvd(file);
    expect(report).toMatchObject({ corruptions: 0, leaks: 1 });
    expect(report.findings).toMatchObject([{ severity: 'leak', kind: 'space-leaked', fileOffset: place }]);
  });
});

/** Puts an extent before those in the list. */
async function addFreeExtent(
  file: MemoryDevice,
  spacePage: number,
  place: number,
  length: number,
): Promise<void> {
  await editPage(file, spacePage, (view, page) => {
    const first = 64 + 2592;
    view.setUint32(64 + 24, view.getUint32(64 + 24, true) + 1, true);
    page.copyWithin(first + 16, first, PAGE - 16);
    setU64(view, first, place);
    setU64(view, first + 8, length);
  });
}

describe('a scrub', () => {
  it('finds a bit flipped in a compressed block; without it the data is not read', async () => {
    const file = await cleanImage();
    const { place } = await entryOf(file, 305);
    await flipBit(file, place + 100, 2);
    expect((await checkVvd(file)).findings).toEqual([]);
    expectOnly(await checkVvd(file, { scrub: true }), 'compressed-data', {
      fileOffset: place,
      guestRange: { offset: 305 * BLOCK, length: BLOCK },
    });
  });
});
