/**
 * A flipped bit in any metadata page that is in use is found on opening and reading through; in one of the two header
 * copies it is healed by the other. Every page, some bits of each.
 */
import { describe, expect, it } from 'vitest';
import { stageAttributes } from '../../formats/vvd/attributes.ts';
import { checkVvd } from '../../formats/vvd/check.ts';
import { createVvd } from '../../formats/vvd/create.ts';
import { readHeader, writeHeader } from '../../formats/vvd/header.ts';
import { ENTRIES, type Header, PAGE, PAGE_HEADER, spaceHeadLayout } from '../../formats/vvd/layout.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import { getU64 } from '../../formats/vvd/page.ts';
import { isVimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';

const BLOCK = 64 * 1024;
const BITS = 40;
const SIZE = 2 * ENTRIES * BLOCK + 5 * BLOCK;

interface Sample {
  readonly file: MemoryDevice;
  readonly header: Header;
  readonly content: Uint8Array;
}

/** Three table pages, attributes, and more free extents than one space page lists. */
async function makeSample(): Promise<Sample> {
  const file = MemoryDevice.create(0);
  await createVvd(file, { virtualSize: SIZE, options: { block_size: BLOCK }, gate: closedGate });
  const header = await readHeader(file);
  await stageAttributes(file, header, new Map([['label', 'x'.repeat(2000)]]));
  await writeHeader(file, header);
  const disk = await open(file, false);
  const content = new Uint8Array(SIZE);
  for (let block = 0; block * BLOCK < SIZE; block++) {
    const data = new Uint8Array(512).fill(1 + (block % 255));
    await disk.pwrite(data, block * BLOCK);
    content.set(data, block * BLOCK);
  }
  await disk.flush();
  for (let block = 1; block < 2 * ENTRIES; block += 2) {
    await disk.discard(block * BLOCK, BLOCK);
    content.fill(0, block * BLOCK, (block + 1) * BLOCK);
  }
  await disk.writeCompressed(4 * BLOCK, new Uint8Array(BLOCK).fill(9));
  content.fill(9, 4 * BLOCK, 5 * BLOCK);
  await disk.close();
  return { file, header: await readHeader(file), content };
}

async function open(file: MemoryDevice, readOnly: boolean): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly, gate: closedGate })]);
}

async function readThrough(file: MemoryDevice, readOnly: boolean): Promise<Uint8Array> {
  const disk = await open(file, readOnly);
  const seen = new Uint8Array(disk.size);
  await disk.pread(seen, 0);
  return seen;
}

function pageAt(file: MemoryDevice, offset: number): Uint8Array {
  const page = new Uint8Array(PAGE);
  file.pread(page, offset);
  return page;
}

function flip(file: MemoryDevice, offset: number, bit: number): MemoryDevice {
  const damaged = file.fork();
  const byte = new Uint8Array(1);
  damaged.pread(byte, offset + (bit >>> 3));
  byte[0] = (byte[0] as number) ^ (1 << (bit & 7));
  damaged.pwrite(byte, offset + (bit >>> 3));
  return damaged;
}

/** The first and last bits, those around the checksum, and others. */
function someBits(random: SeededRandom, bytes: number, count = BITS): number[] {
  const chosen = [0, bytes * 8 - 1, 60 * 8, 63 * 8 + 7, 48 * 8].filter((bit) => bit < bytes * 8);
  while (chosen.length < count) chosen.push(random.below(bytes * 8));
  return chosen;
}

async function expectFound(
  sample: Sample,
  offset: number,
  bytes: number,
  readOnlyToo: boolean,
): Promise<void> {
  const random = new SeededRandom(offset);
  for (const bit of someBits(random, bytes)) {
    const what = `bit ${bit} of ${offset}`;
    for (const readOnly of readOnlyToo ? [true, false] : [false]) {
      const found = await readThrough(flip(sample.file, offset, bit), readOnly).catch(
        (error: unknown) => error,
      );
      expect(
        isVimgError(found, 'CORRUPT'),
        `${what}, ${readOnly ? 'read-only' : 'read-write'}: ${found}`,
      ).toBe(true);
    }
  }
  const { corruptions } = await checkVvd(flip(sample.file, offset, random.below(bytes * 8)), { scrub: true });
  expect(corruptions, `check of ${offset}`).toBeGreaterThan(0);
}

describe('a flipped bit', async () => {
  const sample = await makeSample();
  const { file, header } = sample;

  it('in one header copy is healed by the other', async () => {
    for (const offset of [0, PAGE]) {
      for (const bit of someBits(new SeededRandom(offset), PAGE, 9)) {
        const damaged = flip(file, offset, bit);
        for (const readOnly of [true, false]) {
          const seen = await readThrough(damaged, readOnly);
          expect(Buffer.compare(seen, sample.content), `bit ${bit} of copy ${offset}`).toBe(0);
        }
        const disk = await open(damaged, false);
        await disk.pwrite(new Uint8Array(512), 0);
        await disk.close();
        expect((await checkVvd(damaged)).corruptions).toBe(0);
      }
    }
  });

  it('in both header copies is found', async () => {
    const damaged = flip(flip(file, 0, 2000), PAGE, 2000);
    await expect(readThrough(damaged, true)).rejects.toMatchObject({ code: 'CORRUPT' });
  });

  it('in a table page or directory page is found', async () => {
    await expectFound(sample, header.directoryOffset, PAGE, true);
    const directory = new DataView(pageAt(file, header.directoryOffset).buffer);
    let tables = 0;
    for (let slot = 0; slot < ENTRIES; slot++) {
      const place = getU64(directory, PAGE_HEADER + slot * 16);
      if (place === 0) continue;
      await expectFound(sample, place, PAGE, true);
      tables++;
    }
    expect(tables).toBe(3);
  });

  it('in a page of the space list is found when the disk is opened for writing', async () => {
    const { extentCount } = spaceHeadLayout.decode(pageAt(file, header.spaceOffset), PAGE_HEADER);
    const inFirst = (PAGE - PAGE_HEADER - spaceHeadLayout.size) / 16;
    const pages = 1 + Math.ceil((extentCount - inFirst) / ENTRIES);
    expect(pages).toBeGreaterThan(1);
    for (let i = 0; i < pages; i++) await expectFound(sample, header.spaceOffset + i * PAGE, PAGE, false);
  });

  it('in the attributes is found', async () => {
    const slot = header.attributesOffset + header.attributesSlot * header.attributesSlotPages * PAGE;
    await expectFound(sample, slot, header.attributesLength, true);
  });

  it('in a compressed block is found', async () => {
    const directory = new DataView(pageAt(file, header.directoryOffset).buffer);
    const table = new DataView(pageAt(file, getU64(directory, PAGE_HEADER)).buffer);
    const entry = PAGE_HEADER + 4 * 16;
    await expectFound(sample, getU64(table, entry) - 2, table.getUint32(entry + 8, true), true);
  });
});
