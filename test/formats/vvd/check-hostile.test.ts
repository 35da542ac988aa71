/** Images with right checksums and wrong content: a check ends soon, and says what it found. */
import { describe, expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { PAGE } from '../../../formats/vvd/layout.ts';
import { setU64 } from '../../../formats/vvd/page.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { cleanImage, setPlace } from './damaged-image.ts';
import { editHeader, editPage, MiB, tablePlaces } from './sample-image.ts';

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
