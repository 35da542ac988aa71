/**
 * Checksums of a sealed layer's data: one CRC32C a block, over the sub-blocks it stores, in order.
 *
 * A block is verified once, at its first read after an open; from then on its bytes are trusted.
 */
import { VimgError } from '../../src/base/errors.ts';
import { crc32cBulk } from '../../src/binary/crc32c.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { allocatedOf, entryAt, KIND_DATA, kindOf, placeOf, runLength } from './entry.ts';
import { CHECKSUMS, ENTRIES, type Header, PAGE, PAGE_CHECKSUM, PAGE_HEADER, SUB_BLOCKS } from './layout.ts';
import type { Metadata } from './metadata.ts';
import { pageProblem } from './page.ts';

/** Checksum pages of a disk with so many table pages. */
export function checksumPageCount(tables: number): number {
  return Math.ceil((tables * ENTRIES) / CHECKSUMS);
}

export class BlockChecksums {
  readonly #file: BlockDevice;
  readonly #header: Header;
  readonly #metadata: Metadata;
  readonly #blockSize: number;
  readonly #verified = new Set<number>();
  readonly #pages = new Map<number, DataView>();

  constructor(file: BlockDevice, header: Header, metadata: Metadata) {
    this.#file = file;
    this.#header = header;
    this.#metadata = metadata;
    this.#blockSize = 2 ** header.blockShift;
  }

  /** @throws VimgError `CORRUPT` when a block that holds part of the range does not match its checksum */
  async verifyRange(offset: number, length: number): Promise<void> {
    const last = Math.floor((offset + length - 1) / this.#blockSize);
    for (let block = Math.floor(offset / this.#blockSize); block <= last; block++) {
      if (!this.#verified.has(block)) await this.#verify(block);
    }
  }

  async #verify(block: number): Promise<void> {
    const page = await this.#metadata.table(Math.floor(block / ENTRIES));
    if (page && kindOf(page.view, entryAt(block % ENTRIES)) === KIND_DATA) {
      const at = entryAt(block % ENTRIES);
      const data = await readStored(
        this.#file,
        placeOf(page.view, at),
        allocatedOf(page.view, at),
        this.#blockSize,
      );
      const expected = (await this.#page(Math.floor(block / CHECKSUMS))).getUint32(
        PAGE_HEADER + (block % CHECKSUMS) * 4,
        true,
      );
      if (data.length > 0 && crc32cBulk(data) !== expected) {
        throw new VimgError(
          'CORRUPT',
          'The data of a sealed block was changed: its checksum does not match',
          {
            op: 'read',
            path: this.#file.name,
            offset: block * this.#blockSize,
          },
        );
      }
    }
    this.#verified.add(block);
  }

  async #page(index: number): Promise<DataView> {
    const cached = this.#pages.get(index);
    if (cached) return cached;
    const view = await readChecksumPage(this.#file, this.#header, index);
    this.#pages.set(index, view);
    return view;
  }
}

/** @throws VimgError `CORRUPT` when the page is damaged or missing */
export async function readChecksumPage(file: BlockDevice, header: Header, index: number): Promise<DataView> {
  const place = header.checksumOffset + index * PAGE;
  const bytes = new Uint8Array(PAGE);
  let problem: string | undefined = 'it passes the end of the file';
  if (index < header.checksumPages && place + PAGE <= file.size) {
    await file.pread(bytes, place);
    problem = pageProblem(bytes, { type: PAGE_CHECKSUM, index, diskUuid: header.diskUuid, place });
  }
  if (problem !== undefined) {
    throw new VimgError('CORRUPT', `Checksum page ${index} is damaged: ${problem}`, {
      path: file.name,
      offset: place,
    });
  }
  return new DataView(bytes.buffer);
}

/** The sub-blocks that a block stores, one after another. */
export async function readStored(
  file: BlockDevice,
  place: number,
  allocated: number,
  blockSize: number,
): Promise<Uint8Array> {
  const unit = blockSize / SUB_BLOCKS;
  const data = new Uint8Array(blockSize);
  let used = 0;
  for (let first = 0; first < SUB_BLOCKS; ) {
    const run = runLength(allocated, first);
    if (((allocated >>> first) & 1) === 1) {
      const length = run * unit;
      await file.pread(data.subarray(used, used + length), place + first * unit);
      used += length;
    }
    first += run;
  }
  return data.subarray(0, used);
}
