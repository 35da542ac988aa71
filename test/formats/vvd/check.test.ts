/** Damaged images: each kind of damage is found, with the guest bytes that it touches, and is never called a leak. */
import { describe, expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { encodeHeader, readHeader } from '../../../formats/vvd/header.ts';
import { HEADER_OFFSETS, PAGE } from '../../../formats/vvd/layout.ts';
import { sealPage, setU64 } from '../../../formats/vvd/page.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { CheckFinding, CheckReport } from '../../../src/image/check-report.ts';
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

const BLOCK = 64 * KiB;
const TABLE_SPAN = 252 * BLOCK;
const SIZE = 40 * MiB + 512;
const KIND_DATA = 1;
const KIND_COMPRESSED = 2;
const KIND_ZERO = 3;

/** A disk with 100 data blocks, some compressed, none written twice: no leaks. */
async function cleanImage(): Promise<MemoryDevice> {
  const { file } = await sampleImage(1, { steps: 0 });
  const disk = await openDisk(file);
  await disk.pwrite(new SeededRandom(1).fill(new Uint8Array(100 * BLOCK)), 0);
  for (let block = 300; block < 310; block++) await disk.writeCompressed(block * BLOCK, compressible(block));
  await disk.writeZeroes(320 * BLOCK, BLOCK, { keepAllocated: true });
  await disk.close();
  expect((await checkVvd(file)).findings).toEqual([]);
  return file;
}

/** A block that compresses to an eighth. */
function compressible(seed: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  new SeededRandom(seed).fill(block.subarray(0, BLOCK / 8));
  return block;
}

/** Writes one entry, with a right checksum. */
async function editEntry(
  file: MemoryDevice,
  block: number,
  edit: (view: DataView, at: number) => void,
): Promise<void> {
  const table = (await tablePlaces(file)).find(({ index }) => index === Math.floor(block / 252));
  await editPage(file, table?.place ?? 0, (view) => edit(view, 64 + (block % 252) * 16));
}

/** Its table page must exist. */
async function entryOf(file: MemoryDevice, block: number): Promise<{ place: number; length: number }> {
  const table = (await tablePlaces(file)).find(({ index }) => index === Math.floor(block / 252));
  const view = new DataView((await readPage(file, table?.place ?? 0)).buffer);
  const at = 64 + (block % 252) * 16;
  return { place: view.getUint32(at, true) & ~0xf, length: view.getUint32(at + 8, true) };
}

function setPlace(view: DataView, at: number, place: number, kind = KIND_DATA): void {
  view.setUint32(at, (place & ~0xf) | kind, true);
  view.setUint32(at + 4, Math.floor(place / 2 ** 32), true);
}

function expectOnly(report: CheckReport, kind: string, ...findings: Partial<CheckFinding>[]): void {
  expect(report.findings.map((finding) => finding.kind)).toEqual(findings.map(() => kind));
  expect(report.findings).toMatchObject(findings);
  expect(report.corruptions).toBe(findings.length);
  expect(report.leaks).toBe(0);
}

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

describe('a check of damaged table pages', () => {
  it('finds every bit flipped in any metadata page', async () => {
    const file = await cleanImage();
    const header = await readHeader(file);
    const random = new SeededRandom(5);
    const tables = await tablePlaces(file);
    const pages = [
      ...HEADER_OFFSETS,
      header.spaceOffset,
      header.directoryOffset,
      ...tables.map(({ place }) => place),
    ];
    for (const page of pages) {
      for (let i = 0; i < 25; i++) {
        const damaged = file.fork();
        await flipBit(damaged, page + random.below(PAGE), random.below(8));
        const report = await checkVvd(damaged);
        expect(report.corruptions).toBeGreaterThan(0);
        expect(report.leaks).toBe(0);
      }
    }
  });

  it('says which guest bytes a table page touches', async () => {
    const file = await cleanImage();
    const tables = await tablePlaces(file);
    expect(tables.map(({ index }) => index)).toEqual([0, 1]);
    for (const { index, place } of tables) {
      const damaged = file.fork();
      await flipBit(damaged, place + 1000, 1);
      const guestRange = { offset: index * TABLE_SPAN, length: TABLE_SPAN };
      expectOnly(await checkVvd(damaged), 'table-page', { fileOffset: place, guestRange });
    }
  });

  it('finds pages that were swapped, stale, of another disk, or from the future', async () => {
    const file = await cleanImage();
    const [first, second] = (await tablePlaces(file)).map(({ place }) => place) as [number, number];
    const swapped = file.fork();
    const pages = [await readPage(file, first), await readPage(file, second)] as const;
    await swapped.pwrite(pages[1], first);
    await swapped.pwrite(pages[0], second);
    expectOnly(await checkVvd(swapped), 'table-page', { fileOffset: first }, { fileOffset: second });

    const stale = file.fork();
    const old = pages[0].slice();
    sealPage(old, 0);
    await stale.pwrite(old, first);
    expectOnly(await checkVvd(stale), 'table-page', { message: expect.stringContaining('stale') });

    const foreign = file.fork();
    await editPage(foreign, first, (view) => view.setUint8(20, view.getUint8(20) ^ 1));
    expectOnly(await checkVvd(foreign), 'table-page', { message: expect.stringContaining('another disk') });

    const future = file.fork();
    const { directoryOffset } = await readHeader(file);
    const directory = await readPage(future, directoryOffset);
    sealPage(directory, 1000);
    await future.pwrite(directory, directoryOffset);
    expectOnly(await checkVvd(future), 'directory-page', { guestRange: { offset: 0, length: SIZE } });
  });

  it('finds a directory entry that leads nowhere', async () => {
    const file = await cleanImage();
    const { directoryOffset } = await readHeader(file);
    const [table] = await tablePlaces(file);
    for (const place of [8 * KiB, file.size + MiB, (table?.place ?? 0) + 512, 2 ** 54]) {
      const damaged = file.fork();
      await editPage(damaged, directoryOffset, (view) => {
        view.setUint32(64, place >>> 0, true);
        view.setUint32(68, Math.floor(place / 2 ** 32), true);
      });
      const guestRange = { offset: 0, length: TABLE_SPAN };
      expectOnly(await checkVvd(damaged), 'directory-entry', { fileOffset: table?.entry ?? 0, guestRange });
    }
  });

  it('finds two directory entries for one table page', async () => {
    const file = await cleanImage();
    const [first, second] = await tablePlaces(file);
    await editPage(file, (await readHeader(file)).directoryOffset, (view) => {
      setU64(view, 64 + 16, first?.place ?? 0);
    });
    const report = await checkVvd(file);
    expect(report.findings.map(({ kind }) => kind)).toContain('table-page');
    expect(second).toBeDefined();
  });

  it('finds a directory page that the space list denies', async () => {
    const file = await cleanImage();
    const { spaceOffset, directoryOffset } = await readHeader(file);
    await editPage(file, spaceOffset, (view) => view.setUint8(64 + 32, 0));
    expectOnly(await checkVvd(file), 'directory-unlisted', { fileOffset: directoryOffset });
  });

  it('tells pages that cannot be read, and goes on', async () => {
    const file = await cleanImage();
    const [, second] = await tablePlaces(file);
    const within = { offset: second?.place ?? 0, length: PAGE };
    const failing = new FaultDevice(file, [{ on: 'read', sticky: true, within }]);
    expectOnly(await checkVvd(failing), 'table-page', { fileOffset: within.offset });
  });
});

describe('a check of entries', () => {
  const guestRange = { offset: 5 * BLOCK, length: BLOCK };
  const cases: readonly [kind: string, edit: (view: DataView, at: number, fileSize: number) => void][] = [
    ['entry-kind', (view, at) => view.setUint8(at, (view.getUint8(at) & 0xf0) | 9)],
    ['entry-contradiction', (view, at) => view.setUint32(at + 12, 1, true)],
    ['entry-contradiction', (view, at) => setPlace(view, at, 0)],
    ['entry-contradiction', (view, at) => view.setUint8(at, view.getUint8(at) & 0xf0)],
    ['entry-contradiction', (view, at) => view.setUint8(at, (view.getUint8(at) & 0xf0) | KIND_ZERO)],
    ['block-misaligned', (view, at) => view.setUint32(at, view.getUint32(at, true) + 512, true)],
    ['block-outside', (view, at) => setPlace(view, at, 16 * KiB)],
    ['block-outside', (view, at) => setPlace(view, at, 2 ** 45)],
    ['block-outside', (view, at) => view.setUint32(at + 4, 0xffff_ffff, true)],
    ['block-past-end', (view, at, fileSize) => setPlace(view, at, Math.floor(fileSize / PAGE) * PAGE - PAGE)],
    ['block-length', (view, at) => view.setUint8(at, (view.getUint8(at) & 0xf0) | KIND_COMPRESSED)],
  ];
  it.each(cases)('finds %s', async (kind, edit) => {
    const file = await cleanImage();
    await editEntry(file, 5, (view, at) => edit(view, at, file.size));
    expectOnly(await checkVvd(file), kind, { guestRange });
  });

  it('finds compressed blocks with impossible lengths, and where there is no compression', async () => {
    const file = await cleanImage();
    const damaged = file.fork();
    await editEntry(damaged, 301, (view, at) => view.setUint32(at + 8, BLOCK + 1, true));
    expectOnly(await checkVvd(damaged), 'block-length', {
      guestRange: { offset: 301 * BLOCK, length: BLOCK },
    });
    await editHeader(file, { compression: 0 });
    const report = await checkVvd(file);
    expect(report.findings.map(({ kind }) => kind)).toEqual(new Array(10).fill('entry-kind'));
  });

  it('finds blocks behind the end of the disk', async () => {
    const file = await cleanImage();
    await editHeader(file, { virtualSize: 99 * BLOCK });
    const report = await checkVvd(file);
    expect(new Set(report.findings.map(({ kind }) => kind))).toEqual(new Set(['entry-behind-end']));
    expect(report.corruptions).toBe(12);
    expect(report.findings[0]).not.toHaveProperty('guestRange');
    await editHeader(file, { intent: 1, intentSize: 99 * BLOCK });
    expect((await checkVvd(file)).findings).toEqual([]);
  });

  it('accepts a last block that the file does not hold to its end', async () => {
    const { file } = await sampleImage(1, { steps: 0 });
    const disk = await openDisk(file);
    await disk.pwrite(new Uint8Array(100).fill(1), 0);
    await disk.close();
    const { place } = await entryOf(file, 0);
    expect(file.size).toBeLessThan(place + BLOCK);
    expect((await checkVvd(file)).findings).toEqual([]);
  });
});

describe('a check of places', () => {
  it('finds two blocks that share a place, and names both', async () => {
    const file = await cleanImage();
    const { place } = await entryOf(file, 7);
    await editEntry(file, 90, (view, at) => setPlace(view, at, place));
    const report = await checkVvd(file);
    expectOnly(
      { ...report, corruptions: 2, leaks: 0, findings: report.findings.filter((f) => f.severity !== 'leak') },
      'block-shared',
      { fileOffset: place, guestRange: { offset: 7 * BLOCK, length: BLOCK } },
      { fileOffset: place, guestRange: { offset: 90 * BLOCK, length: BLOCK } },
    );
  });

  it('finds blocks that overlap in part, aligned or not', async () => {
    const file = await cleanImage();
    const { place } = await entryOf(file, 7);
    await editEntry(file, 90, (view, at) => setPlace(view, at, place + 12 * KiB));
    const found = (await checkVvd(file)).findings.filter(({ kind }) => kind === 'block-shared');
    const blocks = found.map((finding) => (finding.guestRange?.offset ?? 0) / BLOCK);
    expect(blocks).toEqual([7, 90, 8]);
  });

  it('finds compressed blocks that overlap by 16 bytes', async () => {
    const file = await cleanImage();
    const [first, second] = [await entryOf(file, 300), await entryOf(file, 301)];
    expect(second.place).toBe(Math.ceil((first.place + first.length) / 16) * 16);
    await editEntry(file, 301, (view, at) => setPlace(view, at, second.place - 16, KIND_COMPRESSED));
    expectOnly(
      await checkVvd(file),
      'block-shared',
      { guestRange: { offset: 300 * BLOCK, length: BLOCK } },
      { guestRange: { offset: 301 * BLOCK, length: BLOCK } },
    );
  });

  it('finds a block over a compressed one', async () => {
    const file = await cleanImage();
    const { place } = await entryOf(file, 305);
    await editEntry(file, 50, (view, at) => setPlace(view, at, Math.floor(place / PAGE) * PAGE));
    const kinds = (await checkVvd(file)).findings.filter((finding) => finding.severity === 'corruption');
    expect(kinds.map(({ kind }) => kind)).toContain('block-shared');
    expect(kinds.some((finding) => finding.guestRange?.offset === 305 * BLOCK)).toBe(true);
    expect(kinds.some((finding) => finding.guestRange?.offset === 50 * BLOCK)).toBe(true);
  });

  it('finds a block over a table page', async () => {
    const file = await cleanImage();
    const [table] = await tablePlaces(file);
    await editEntry(file, 50, (view, at) => setPlace(view, at, table?.place ?? 0));
    const kinds = (await checkVvd(file)).findings.map(({ kind }) => kind);
    expect(kinds).toContain('block-overlaps-metadata');
    expect(kinds).toContain('table-page-shared');
  });

  it('finds a block over a directory that moved among the blocks', async () => {
    const file = await cleanImage();
    const disk = await openDisk(file);
    await disk.resize(64 * 1024 * MiB);
    await disk.close();
    const { directoryOffset } = await readHeader(file);
    await editEntry(file, 50, (view, at) => setPlace(view, at, directoryOffset));
    const found = (await checkVvd(file)).findings.find(({ kind }) => kind === 'block-overlaps-metadata');
    expect(found).toMatchObject({
      guestRange: { offset: 50 * BLOCK },
      message: expect.stringContaining('the directory'),
    });
  });

  it('bounds what it lists', async () => {
    const { file } = await sampleImage(1, { steps: 0, virtualSize: 1024 * MiB, compression: 'none' });
    const disk = await openDisk(file);
    for (let block = 0; block < 12_000; block++) {
      await disk.writeZeroes(block * BLOCK, BLOCK, { keepAllocated: true });
    }
    await disk.close();
    for (const { place } of await tablePlaces(file)) {
      await editPage(file, place, (view) => {
        for (let at = 64; at < PAGE; at += 16)
          if (view.getUint32(at, true) !== 0) view.setUint32(at + 8, 1, true);
      });
    }
    const report = await checkVvd(file);
    expect(report.corruptions).toBe(12_000);
    expect(report.findings.length).toBe(10_000);
  });
});

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

describe('a check of a hostile image', () => {
  const GiB = 1024 * MiB;

  it('passes a directory of 20,480 pages that is all damaged', async () => {
    const file = await cleanImage();
    const { spaceOffset } = await readHeader(file);
    await editPage(file, spaceOffset, (_, page) => page.fill(0xff, 64 + 32, 64 + 2592));
    const directoryOffset = 2 ** 40;
    await editHeader(file, {
      directoryOffset,
      directoryPages: 20_480,
      directoryCapacity: 20_480,
      virtualSize: GiB,
    });
    file.resize(2 ** 50);
    const report = await checkVvd(file);
    expect(report.corruptions).toBe(20_480);
    expect(report.leaks).toBe(0);
  });

  it('passes a directory that names one table page in all its entries', async () => {
    const file = await cleanImage();
    const { directoryOffset } = await readHeader(file);
    const [table] = await tablePlaces(file);
    await editPage(file, directoryOffset, (view) => {
      for (let at = 64; at < PAGE; at += 16) {
        setU64(view, at, table?.place ?? 0);
        setU64(view, at + 8, 1);
      }
    });
    const report = await checkVvd(file);
    expect(report.findings.filter(({ kind }) => kind === 'table-page').length).toBe(251);
  });

  it('passes blocks scattered over a file of 2^52 bytes, and ends of space there', async () => {
    const file = await cleanImage();
    const { spaceOffset } = await readHeader(file);
    for (const { place } of await tablePlaces(file)) {
      await editPage(file, place, (view) => {
        for (let i = 0; i < 252; i++) setPlace(view, 64 + i * 16, (place + i * 2 ** 43) % 2 ** 52);
      });
    }
    await editPage(file, spaceOffset, (view) => {
      setU64(view, 64, 2 ** 53 - PAGE);
      view.setUint32(64 + 24, 0, true);
    });
    file.resize(2 ** 52);
    const report = await checkVvd(file);
    expect(report.findings.length).toBeGreaterThan(100);
    expect(await checkVvd(file, { scrub: true })).toMatchObject({ corruptions: expect.any(Number) });
  });

  it('survives any bytes in any place', async () => {
    const file = await cleanImage();
    const random = new SeededRandom(11);
    const { dataOffset } = await readHeader(file);
    for (let round = 0; round < 150; round++) {
      const damaged = file.fork();
      const length = 1 + random.below(random.oneIn(2) ? 16 : 2 * PAGE);
      const end = random.oneIn(3) ? file.size : dataOffset + 16 * PAGE;
      await damaged.pwrite(random.fill(new Uint8Array(length)), random.below(end - length));
      if (random.oneIn(4)) damaged.resize(random.below(file.size));
      try {
        const report = await checkVvd(damaged, { scrub: random.oneIn(2) });
        expect(report.findings.every(({ message }) => !message.includes('NaN'))).toBe(true);
      } catch (error) {
        expect(error).toMatchObject({
          name: 'VimgError',
          code: expect.stringMatching(/INVALID_FORMAT|UNSUPPORTED/),
        });
      }
    }
  });
});
