/**
 * The journal: two slots, used in turn. Transaction n goes to slot n mod 2.
 *
 * A transaction is whole page images under one checksum. It is written after the data it maps is durable, and made
 * durable before its pages are written in place. Those are durable before the next transaction is written, because
 * that one begins by flushing its own data. So at most one transaction is ever needed, the last: a reader takes the
 * valid slot with the higher sequence, if it is above the header's, and puts its images in place. Doing so twice
 * changes nothing.
 */
import type { BlockDevice } from '../../src/device/block-device.ts';
import {
  type Header,
  HOME_OFFSET,
  PAGE,
  PAGE_DIRECTORY,
  PAGE_HEADER,
  PAGE_JOURNAL,
  PAGE_SPACE,
  PAGE_TABLE,
  transactionHeadLayout,
} from './layout.ts';
import { getU64, newPage, pageIndex, pageProblem, pageType, sealPage, setU64 } from './page.ts';

/** A page image and where it belongs. */
export interface PageImage {
  readonly home: number;
  readonly page: Uint8Array;
}

export interface Transaction {
  readonly sequence: number;
  readonly images: readonly PageImage[];
}

const HOMES_AT = PAGE_HEADER + transactionHeadLayout.size;

/** Pages of a transaction's head when it holds `images` page images. */
export function headPages(images: number): number {
  return Math.ceil((HOMES_AT + images * HOME_OFFSET) / PAGE);
}

/** How many images fit a slot. */
export function slotCapacity(slotPages: number): number {
  let images = slotPages - 1;
  while (images + headPages(images) > slotPages) images--;
  return images;
}

export function slotOffset(header: Header, sequence: number): number {
  return header.journalOffset + (sequence % 2) * header.journalSlotPages * PAGE;
}

/** The bytes of a transaction, ready for its slot. */
export function encodeTransaction(header: Header, transaction: Transaction): Uint8Array {
  const { sequence, images } = transaction;
  const head = headPages(images.length);
  const place = slotOffset(header, sequence);
  const bytes = newPage(PAGE_JOURNAL, sequence, header.diskUuid, place, (head + images.length) * PAGE);
  transactionHeadLayout.encode(
    { imageCount: images.length, headPages: head, reserved: 0 },
    bytes,
    PAGE_HEADER,
  );
  const view = new DataView(bytes.buffer);
  for (const [i, image] of images.entries()) {
    setU64(view, HOMES_AT + i * HOME_OFFSET, image.home);
    bytes.set(image.page, (head + i) * PAGE);
  }
  sealPage(bytes, sequence);
  return bytes;
}

/** The transaction to put in place: the valid one with the highest sequence above the header's, if any. */
export async function findTransaction(file: BlockDevice, header: Header): Promise<Transaction | undefined> {
  const slots = [await readSlot(file, header, 0), await readSlot(file, header, 1)];
  let last: Transaction | undefined;
  for (const found of slots) {
    if (found && found.sequence > header.sequence && (!last || found.sequence > last.sequence)) last = found;
  }
  return last;
}

/** The transaction in a slot, or undefined when it holds none that is whole. */
export async function readSlot(
  file: BlockDevice,
  header: Header,
  slot: 0 | 1,
): Promise<Transaction | undefined> {
  const place = slotOffset(header, slot);
  if (file.size < place + PAGE) return undefined;
  const first = new Uint8Array(PAGE);
  await file.pread(first, place);
  const view = new DataView(first.buffer);
  const imageCount = view.getUint32(PAGE_HEADER, true);
  const head = view.getUint32(PAGE_HEADER + 4, true);
  const pages = head + imageCount;
  if (pages > header.journalSlotPages || head !== headPages(imageCount)) return undefined;
  if (file.size < place + pages * PAGE) return undefined;
  const bytes = new Uint8Array(pages * PAGE);
  await file.pread(bytes, place);
  const sequence = pageIndex(bytes);
  if (sequence % 2 !== slot) return undefined;
  const expected = {
    type: PAGE_JOURNAL,
    index: sequence,
    diskUuid: header.diskUuid,
    place,
    generation: sequence,
  };
  if (pageProblem(bytes, expected) !== undefined) return undefined;
  return { sequence, images: readImages(bytes, imageCount, head) };
}

function readImages(bytes: Uint8Array, count: number, head: number): PageImage[] {
  const view = new DataView(bytes.buffer);
  const images: PageImage[] = [];
  for (let i = 0; i < count; i++) {
    const home = getU64(view, HOMES_AT + i * HOME_OFFSET);
    images.push({ home, page: bytes.subarray((head + i) * PAGE, (head + i + 1) * PAGE) });
  }
  return images;
}

/**
 * What forbids putting a transaction in place: an image that is not a whole metadata page of this disk, or whose
 * home is not where such a page may be. A checksum alone proves nothing: a hostile image has right ones.
 */
export function transactionProblem(header: Header, transaction: Transaction): string | undefined {
  for (const { home, page } of transaction.images) {
    const type = pageType(page);
    const index = pageIndex(page);
    const expected = {
      type,
      index,
      diskUuid: header.diskUuid,
      place: home,
      generation: transaction.sequence,
    };
    const problem = pageProblem(page, expected);
    if (problem !== undefined) return `the image for offset ${home}: ${problem}`;
    if (!isHome(header, type, index, home)) return `the image for offset ${home} is outside the metadata`;
  }
  return undefined;
}

function isHome(header: Header, type: number, index: number, home: number): boolean {
  switch (type) {
    case PAGE_DIRECTORY:
      return index < header.directoryPages && home === header.directoryOffset + index * PAGE;
    case PAGE_SPACE:
      return index < header.spacePages && home === header.spaceOffset + index * PAGE;
    case PAGE_TABLE:
      return home % PAGE === 0 && home >= header.dataOffset && Number.isSafeInteger(home + PAGE);
    default:
      return false;
  }
}
