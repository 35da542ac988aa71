/** VVD images made by the driver from a seed, and the tools to damage them. */
import { createVvd } from '../../../formats/vvd/create.ts';
import { encodeHeader, readHeader } from '../../../formats/vvd/header.ts';
import { ENTRIES, HEADER_OFFSETS, type Header, PAGE, PAGE_HEADER } from '../../../formats/vvd/layout.ts';
import { openVvd } from '../../../formats/vvd/open.ts';
import { getU64, pageGeneration, sealPage } from '../../../formats/vvd/page.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { closedGate } from '../../../src/image/gate-policies.ts';

export const KiB = 1024;
export const MiB: number = 1024 * KiB;

export interface SampleOptions {
  readonly blockSize?: number;
  readonly virtualSize?: number;
  readonly compression?: string;
  readonly provisioning?: string;
  readonly steps?: number;
}

export interface Sample {
  /** Closed. */
  readonly file: MemoryDevice;
  /** As after a crash behind the last flush: not closed, all that was flushed is there. */
  readonly crashed: MemoryDevice;
  /** What the guest reads. */
  readonly content: Uint8Array;
}

export async function openDisk(file: BlockDevice, readOnly = false): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly, gate: closedGate })]);
}

/** A disk with blocks of every kind, written in random order, with space freed and used again. */
export async function sampleImage(seed: number, options: SampleOptions = {}): Promise<Sample> {
  const {
    blockSize = 64 * KiB,
    virtualSize = 40 * MiB + 512,
    compression = 'deflate',
    steps = 120,
  } = options;
  const random = new SeededRandom(seed);
  const file = MemoryDevice.create(0);
  const settings = { block_size: blockSize, compression, provisioning: options.provisioning ?? 'thin' };
  await createVvd(file, { virtualSize, options: { ...settings, journal_size: 128 * KiB }, gate: closedGate });
  const content = new Uint8Array(virtualSize);
  const disk = await openDisk(file);
  for (let step = 0; step < steps; step++) await randomStep(disk, content, random, blockSize, compression);
  await disk.flush();
  const crashed = file.fork();
  await disk.close();
  return { file, crashed, content };
}

async function randomStep(
  disk: DiskImage,
  content: Uint8Array,
  random: SeededRandom,
  blockSize: number,
  compression: string,
): Promise<void> {
  const offset = random.below(content.length);
  const length = Math.min(content.length - offset, 1 + random.below(random.oneIn(4) ? 5 * blockSize : 9000));
  switch (random.below(8)) {
    case 0:
      await disk.writeZeroes(offset, length, { keepAllocated: random.oneIn(2) });
      content.fill(0, offset, offset + length);
      return;
    case 1:
      if (random.oneIn(4)) await disk.flush();
      return;
    case 2:
    case 3: {
      if (compression === 'none') return;
      const start = Math.floor(offset / blockSize) * blockSize;
      const unit = new Uint8Array(Math.min(blockSize, content.length - start)).fill(random.below(256));
      random.fill(unit.subarray(0, random.below(unit.length >>> 1)));
      await disk.writeCompressed(start, unit);
      content.set(unit, start);
      return;
    }
    default: {
      const data = random.fill(new Uint8Array(length));
      await disk.pwrite(data, offset);
      content.set(data, offset);
    }
  }
}

export async function readAll(file: BlockDevice): Promise<Uint8Array> {
  const disk = await openDisk(file, true);
  const content = new Uint8Array(disk.size);
  await disk.pread(content, 0);
  return content;
}

export async function readPage(file: BlockDevice, place: number): Promise<Uint8Array> {
  const page = new Uint8Array(PAGE);
  await file.pread(page, place);
  return page;
}

/** Changes a metadata page and gives it a right checksum, as a hostile image has. */
export async function editPage(
  file: BlockDevice,
  place: number,
  edit: (view: DataView, page: Uint8Array) => void,
): Promise<void> {
  const page = await readPage(file, place);
  edit(new DataView(page.buffer), page);
  sealPage(page, pageGeneration(page));
  await file.pwrite(page, place);
}

/** Changes both header copies, with right checksums. */
export async function editHeader(file: BlockDevice, change: Partial<Header>): Promise<void> {
  const header = { ...(await readHeader(file)), ...change };
  for (const back of [1, 0]) {
    const generation = header.generation - back;
    await file.pwrite(encodeHeader({ ...header, generation }), HEADER_OFFSETS[generation % 2] as number);
  }
}

export async function flipBit(file: BlockDevice, offset: number, bit: number): Promise<void> {
  const byte = new Uint8Array(1);
  await file.pread(byte, offset);
  byte[0] = (byte[0] as number) ^ (1 << bit);
  await file.pwrite(byte, offset);
}

/** A table page and where the directory names it. */
export interface TablePlace {
  readonly index: number;
  readonly place: number;
  /** Offset of its directory entry in the file. */
  readonly entry: number;
}

/** Where the table pages are. */
export async function tablePlaces(file: BlockDevice): Promise<TablePlace[]> {
  const header = await readHeader(file);
  const tables: TablePlace[] = [];
  for (let directory = 0; directory < header.directoryPages; directory++) {
    const at = header.directoryOffset + directory * PAGE;
    const page = await readPage(file, at);
    for (let slot = 0; slot < ENTRIES; slot++) {
      const offset = PAGE_HEADER + slot * 16;
      const place = getU64(new DataView(page.buffer), offset);
      if (place !== 0) tables.push({ index: directory * ENTRIES + slot, place, entry: at + offset });
    }
  }
  return tables;
}
