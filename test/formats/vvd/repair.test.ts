/** Repairs: what can be proven is restored, the rest is refused and said, and the undo file takes everything back. */
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { HEADER_OFFSETS, PAGE, STATE_CLEAN, STATE_DIRTY } from '../../../formats/vvd/layout.ts';
import { setU64 } from '../../../formats/vvd/page.ts';
import { applyUndo } from '../../../formats/vvd/undo-file.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import type { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { CheckReport } from '../../../src/image/check-report.ts';
import {
  editPage,
  flipBit,
  KiB,
  MiB,
  openDisk,
  readAll,
  readPage,
  type Sample,
  sampleImage,
  tablePlaces,
} from './sample-image.ts';

const BLOCK = 64 * KiB;
const SMALL = { compression: 'none', steps: 60, virtualSize: 17 * MiB };
const HEAD = 64 + 2592;
let folder: string;
let cleanup: () => Promise<void>;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-repair-' });
  folder = made.path;
  cleanup = made.cleanup;
});
afterEach(() => cleanup());

const undoPath = (): string => join(folder, 'undo');

/** Repairs, and checks that the undo file puts back every byte. */
async function repair(file: MemoryDevice, what: 'leaks' | 'all' = 'all'): Promise<CheckReport> {
  const before = file.snapshot();
  const report = await checkVvd(file, { repair: what, undoPath: undoPath() });
  const undone = file.fork();
  if (existsSync(undoPath())) await applyUndo(undone, undoPath());
  expect(Buffer.compare(undone.snapshot(), before)).toBe(0);
  return report;
}

/** A disk with free extents between its blocks. */
async function image(seed = 1): Promise<Sample> {
  const sample = await sampleImage(seed, SMALL);
  const disk = await openDisk(sample.file);
  for (let block = 0; block < 60; block += 3) await disk.discard(block * BLOCK, BLOCK);
  await disk.pread(sample.content, 0);
  await disk.close();
  return sample;
}

async function expectContent(file: MemoryDevice, content: Uint8Array): Promise<void> {
  expect((await checkVvd(file)).findings).toEqual([]);
  expect(Buffer.compare(await readAll(file), content)).toBe(0);
  const disk = await openDisk(file);
  await disk.pwrite(new Uint8Array(BLOCK).fill(9), 20 * BLOCK);
  await disk.close();
  expect((await checkVvd(file)).findings).toEqual([]);
}

describe('a repair', () => {
  it.each(HEADER_OFFSETS)('restores the header copy at %i from the other', async (offset) => {
    const { file, content } = await image();
    await flipBit(file, offset + 200, 1);
    const report = await repair(file);
    expect(report).toMatchObject({ corruptions: 0, corruptionsFixed: 1, leaks: 0 });
    expect(report.findings).toMatchObject([{ kind: 'header-copy', repaired: true }]);
    await expectContent(file, content);
  });

  it('makes the space list again when it is damaged', async () => {
    const { file, content } = await image();
    const { spaceOffset } = await readHeader(file);
    await file.pwrite(new Uint8Array(PAGE).fill(0xaa), spaceOffset);
    expect(await repair(file)).toMatchObject({ corruptions: 0, corruptionsFixed: 1, leaks: 0 });
    await expectContent(file, content);
  });

  it('makes the space list again when it gives out what is used', async () => {
    const { file, content } = await image();
    const { spaceOffset, dataOffset } = await readHeader(file);
    await editPage(file, spaceOffset, (view) => {
      view.setUint32(64 + 24, 1, true);
      setU64(view, HEAD, dataOffset + 2 * BLOCK);
      setU64(view, HEAD + 8, 8 * BLOCK);
    });
    const report = await repair(file);
    expect(report).toMatchObject({ corruptions: 0, leaks: 0 });
    expect(report.corruptionsFixed).toBeGreaterThan(0);
    await expectContent(file, content);
  });

  it('marks a directory page as written that the space list denies', async () => {
    const { file, content } = await image();
    const { spaceOffset } = await readHeader(file);
    await editPage(file, spaceOffset, (view) => view.setUint8(64 + 32, 0));
    expect(await repair(file)).toMatchObject({ corruptions: 0, corruptionsFixed: 1, leaks: 0 });
    await expectContent(file, content);
  });

  it.each(['leaks', 'all'] as const)('gives back leaked space (%s)', async (what) => {
    const { file, content } = await image();
    const { spaceOffset } = await readHeader(file);
    await editPage(file, spaceOffset, (view) => view.setUint32(64 + 24, 0, true));
    const before = await checkVvd(file);
    expect(before.corruptions).toBe(0);
    expect(before.leaks).toBeGreaterThan(0);
    const report = await repair(file, what);
    expect(report).toMatchObject({ corruptions: 0, leaks: 0, leaksFixed: before.leaks });
    await expectContent(file, content);
  });

  it('repairs leaks alone when only they are asked for', async () => {
    const { file } = await image();
    const { spaceOffset } = await readHeader(file);
    await editPage(file, spaceOffset, (view) => view.setUint32(64 + 24, 0, true));
    await flipBit(file, 300, 1);
    const report = await repair(file, 'leaks');
    expect(report).toMatchObject({ corruptions: 1, corruptionsFixed: 0, leaks: 0 });
    expect(report.findings.find(({ kind }) => kind === 'header-copy')).toMatchObject({
      repaired: false,
      message: expect.stringContaining('only leaks'),
    });
  });

  it('brings an image that was not closed in order first', async () => {
    const { crashed, content } = await sampleImage(2, SMALL);
    for (const { place } of await tablePlaces(crashed))
      await crashed.pwrite(new Uint8Array(100), place + 2000);
    await flipBit(crashed, 300, 1);
    const before = await checkVvd(crashed);
    expect((await readHeader(crashed)).state).toBe(STATE_DIRTY);
    const report = await repair(crashed);
    expect(report).toMatchObject({ corruptions: 0, corruptionsFixed: before.corruptions });
    expect((await readHeader(crashed)).state).toBe(STATE_CLEAN);
    await expectContent(crashed, content);
  });

  it('takes a damaged page from the journal when that still holds it', async () => {
    // as on a medium whose space cannot be given back: the journal keeps the transactions that are in place
    const { crashed, file, content } = await sampleImage(3, SMALL);
    const { journalOffset, journalSlotPages } = await readHeader(file);
    const journal = new Uint8Array(2 * journalSlotPages * PAGE);
    await crashed.pread(journal, journalOffset);
    await file.pwrite(journal, journalOffset);
    const homes = await homesOf(file, journalOffset, journalSlotPages);
    const tables = (await tablePlaces(file)).filter(({ place }) => homes.has(place));
    const { directoryOffset } = await readHeader(file);
    expect(tables.length).toBeGreaterThan(0);
    expect(homes.has(directoryOffset)).toBe(true);
    for (const { place } of tables) await flipBit(file, place + 900, 5);
    await flipBit(file, directoryOffset + 900, 5);
    const report = await repair(file);
    expect(report).toMatchObject({ corruptions: 0, corruptionsFixed: tables.length + 1, leaks: 0 });
    await expectContent(file, content);
  });

  it('refuses what nothing proves, says so, and touches nothing', async () => {
    const { file } = await image();
    const [table] = await tablePlaces(file);
    await flipBit(file, (table?.place ?? 0) + 900, 5);
    const before = file.snapshot();
    const report = await repair(file);
    expect(report).toMatchObject({ corruptions: 1, corruptionsFixed: 0 });
    expect(report.findings).toMatchObject([
      { kind: 'table-page', repaired: false, message: expect.stringContaining('not repaired') },
    ]);
    expect(existsSync(undoPath())).toBe(false);
    expect(Buffer.compare(file.snapshot(), before)).toBe(0);
  });

  it('does not make the space list from tables that are damaged', async () => {
    const { file } = await image();
    const [table] = await tablePlaces(file);
    const { spaceOffset } = await readHeader(file);
    await flipBit(file, (table?.place ?? 0) + 900, 5);
    await flipBit(file, spaceOffset + 900, 5);
    const report = await repair(file);
    expect(report).toMatchObject({ corruptions: 2, corruptionsFixed: 0 });
    expect(existsSync(undoPath())).toBe(false);
  });

  it('does nothing to a sound image, and needs an undo file', async () => {
    const { file } = await image();
    const before = file.snapshot();
    expect(await repair(file)).toMatchObject({ corruptions: 0, leaks: 0, findings: [] });
    expect(Buffer.compare(file.snapshot(), before)).toBe(0);
    expect(existsSync(undoPath())).toBe(false);
    await expect(checkVvd(file, { repair: 'all' })).rejects.toMatchObject({ code: 'USAGE' });
    const fixed = checkVvd(file.fork({ readOnly: true }), { repair: 'all', undoPath: undoPath() });
    await expect(fixed).rejects.toMatchObject({ code: 'READ_ONLY' });
  });

  it('overwrites no undo file', async () => {
    const { file } = await image();
    await flipBit(file, 300, 1);
    writeFileSync(undoPath(), 'precious');
    const before = file.snapshot();
    const refused = checkVvd(file, { repair: 'all', undoPath: undoPath() });
    await expect(refused).rejects.toMatchObject({ code: 'EXISTS' });
    expect(readFileSync(undoPath(), 'utf8')).toBe('precious');
    expect(Buffer.compare(file.snapshot(), before)).toBe(0);
  });
});

/** Homes of all images in the journal. */
async function homesOf(file: MemoryDevice, journal: number, slotPages: number): Promise<Set<number>> {
  const homes = new Set<number>();
  for (const slot of [journal, journal + slotPages * PAGE]) {
    const view = new DataView((await readPage(file, slot)).buffer);
    for (let i = 0; i < view.getUint32(64, true); i++) homes.add(view.getUint32(80 + i * 8, true));
  }
  return homes;
}

describe('an undo file', () => {
  async function repaired(): Promise<{ file: MemoryDevice; before: Uint8Array }> {
    const { file } = await image();
    await flipBit(file, 300, 1);
    await flipBit(file, (await readHeader(file)).spaceOffset + 500, 1);
    const before = file.snapshot();
    await checkVvd(file, { repair: 'all', undoPath: undoPath() });
    return { file, before };
  }

  it('can be applied twice', async () => {
    const { file, before } = await repaired();
    await applyUndo(file, undoPath());
    await applyUndo(file, undoPath());
    expect(Buffer.compare(file.snapshot(), before)).toBe(0);
  });

  it('takes back a repair that stopped at any write', async () => {
    const { file } = await image();
    await flipBit(file, 300, 1);
    await flipBit(file, (await readHeader(file)).spaceOffset + 500, 1);
    for (let at = 1; at <= 3; at++) {
      const path = `${undoPath()}-${at}`;
      const stopped = file.fork();
      const failing = new FaultDevice(stopped, [{ on: 'write', at, partialBytes: 1000 }]);
      await expect(checkVvd(failing, { repair: 'all', undoPath: path })).rejects.toMatchObject({
        code: 'IO',
      });
      await applyUndo(stopped, path);
      expect(Buffer.compare(stopped.snapshot(), file.snapshot())).toBe(0);
    }
  });

  it('ignores a record that is cut short: what it saved was not overwritten', async () => {
    const { file } = await repaired();
    truncateSync(undoPath(), readFileSync(undoPath()).length - 10);
    await applyUndo(file, undoPath());
    expect((await checkVvd(file)).corruptions).toBeGreaterThan(0);
  });

  it('is refused when it is none, or belongs to another disk', async () => {
    const { file } = await repaired();
    const other = (await image(9)).file;
    await expect(applyUndo(other, undoPath())).rejects.toMatchObject({ code: 'USAGE' });
    const nonsense = join(folder, 'nonsense');
    writeFileSync(nonsense, 'nothing of the kind');
    await expect(applyUndo(file, nonsense)).rejects.toMatchObject({ code: 'INVALID_FORMAT' });
  });
});
