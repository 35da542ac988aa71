/** The intact images that hostile ones are made from: one of each state that a file can be found in. */

import { encodeAttributes } from '../../formats/vvd/attributes.ts';
import { checksumPageCount, readStored } from '../../formats/vvd/block-checksums.ts';
import { allocatedOf, entryAt, KIND_DATA, kindOf, placeOf } from '../../formats/vvd/entry.ts';
import { geometry, readHeader } from '../../formats/vvd/header.ts';
import {
  CHECKSUMS,
  ENTRIES,
  INCOMPATIBLE_SEALED,
  PAGE,
  PAGE_CHECKSUM,
  PAGE_HEADER,
} from '../../formats/vvd/layout.ts';
import { newPage, sealPage } from '../../formats/vvd/page.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { editHeader, KiB, MiB, readPage, sampleImage, tablePlaces } from '../formats/vvd/sample-image.ts';
import { type Structure, structuresOf } from './structures.ts';

/** closed: cleanly; crashed: with a transaction to replay; sealed: with checksums; other: another disk. */
export type BaseName = 'closed' | 'crashed' | 'sealed' | 'other';

export interface BaseImage {
  readonly file: MemoryDevice;
  readonly structures: readonly Structure[];
}

const made = new Map<BaseName, Promise<BaseImage>>();

/** The base of this name; the same each time: fork it before changing it. */
export function baseImage(name: BaseName): Promise<BaseImage> {
  const known = made.get(name);
  if (known) return known;
  const image = make(name).then(async (file) => ({ file, structures: await structuresOf(file) }));
  made.set(name, image);
  return image;
}

async function make(name: BaseName): Promise<MemoryDevice> {
  const seed = name === 'other' ? 2 : 1;
  const options = { virtualSize: 17 * MiB + 512, blockSize: 64 * KiB, steps: 60 };
  const { file, crashed } = await sampleImage(seed, options);
  const image = name === 'crashed' ? crashed : file;
  await addAttributes(image);
  if (name === 'sealed') await addChecksums(image);
  return image;
}

async function addAttributes(file: MemoryDevice): Promise<void> {
  const header = await readHeader(file);
  const bytes = encodeAttributes(
    new Map<string, string | number | boolean>([
      ['label', 'a'],
      ['x-n', 7],
      ['shared', true],
    ]),
  );
  file.pwrite(bytes, header.attributesOffset + header.attributesSlot * header.attributesSlotPages * PAGE);
  await editHeader(file, { attributesLength: bytes.length, attributesCrc: crc32c(bytes) });
}

/** Seals the layer with a checksum for each block, as `seal` does to a file. */
async function addChecksums(file: MemoryDevice): Promise<void> {
  const header = await readHeader(file);
  const count = checksumPageCount(geometry(header.virtualSize, header.blockShift).tables);
  const offset = Math.ceil(file.size / PAGE) * PAGE;
  const pages = Array.from({ length: count }, (_, i) =>
    newPage(PAGE_CHECKSUM, i, header.diskUuid, offset + i * PAGE),
  );
  for (const { index, place } of await tablePlaces(file)) {
    const { buffer } = await readPage(file, place);
    const view = new DataView(buffer);
    for (let slot = 0; slot < ENTRIES; slot++) {
      const at = entryAt(slot);
      if (kindOf(view, at) !== KIND_DATA) continue;
      const stored = await readStored(file, placeOf(view, at), allocatedOf(view, at), 2 ** header.blockShift);
      const block = index * ENTRIES + slot;
      const page = pages[Math.floor(block / CHECKSUMS)] as Uint8Array;
      new DataView(page.buffer).setUint32(PAGE_HEADER + (block % CHECKSUMS) * 4, crc32c(stored), true);
    }
  }
  for (const [i, page] of pages.entries()) {
    sealPage(page, 0);
    file.pwrite(page, offset + i * PAGE);
  }
  await editHeader(file, {
    incompatible: header.incompatible | INCOMPATIBLE_SEALED,
    checksumOffset: offset,
    checksumPages: count,
    checksumState: 1,
    sealedMs: 1,
  });
}
