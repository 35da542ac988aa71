/** Damaged directory and table pages are found, with the guest bytes that they touch. */
import { describe, expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { HEADER_OFFSETS, PAGE } from '../../../formats/vvd/layout.ts';
import { sealPage, setU64 } from '../../../formats/vvd/page.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { cleanImage, expectOnly, SIZE, TABLE_SPAN } from './damaged-image.ts';
import { editPage, flipBit, KiB, MiB, readPage, tablePlaces } from './sample-image.ts';

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
