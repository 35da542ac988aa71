/** Entries that contradict themselves, and places used twice, are found, with the guest bytes that they touch. */
import { describe, expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { PAGE } from '../../../formats/vvd/layout.ts';
import {
  BLOCK,
  cleanImage,
  editEntry,
  entryOf,
  expectOnly,
  KIND_COMPRESSED,
  KIND_ZERO,
  setPlace,
} from './damaged-image.ts';
import { editHeader, editPage, KiB, MiB, openDisk, sampleImage, tablePlaces } from './sample-image.ts';

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
