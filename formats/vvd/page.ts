/** Metadata pages: each says what it is, whose, where it belongs and from when, under one checksum. */
import { crc32c } from '../../src/binary/crc32c.ts';
import { formatUuid, parseUuid } from '../../src/binary/uuid.ts';
import { PAGE, PAGE_MAGIC, pageHeaderLayout } from './layout.ts';

const TYPE_OFFSET = 4;
const VERSION_OFFSET = 6;
const INDEX_OFFSET = 8;
const UUID_OFFSET = 16;
const GENERATION_OFFSET = 32;
const PLACE_OFFSET = 40;
const CRC_OFFSET = 60;
const PAGE_VERSION = 1;
const MAGIC_WORD = Buffer.from(PAGE_MAGIC, 'latin1').readUInt32LE(0);

/** What a page must be to be the one meant. */
export interface PageExpectation {
  readonly type: number;
  readonly index: number;
  readonly diskUuid: string;
  readonly place: number;
  /** Exact generation, when known. */
  readonly generation?: number;
}

/** A page with its header and an empty payload; sealed later. */
export function newPage(
  type: number,
  index: number,
  diskUuid: string,
  place: number,
  length: number = PAGE,
): Uint8Array {
  const page = new Uint8Array(length);
  pageHeaderLayout.encode(
    {
      magic: PAGE_MAGIC,
      type,
      version: PAGE_VERSION,
      index,
      diskUuid,
      generation: 0,
      place,
      reserved: new Uint8Array(12),
      crc: 0,
    },
    page,
  );
  return page;
}

/** Stamps a page with its transaction and its checksum: from now on it may be written. */
export function sealPage(page: Uint8Array, generation: number): void {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  setU64(view, GENERATION_OFFSET, generation);
  view.setUint32(CRC_OFFSET, 0, true);
  view.setUint32(CRC_OFFSET, crc32c(page), true);
}

/** What is wrong with a page, or undefined when it is exactly the one expected. */
export function pageProblem(page: Uint8Array, expected: PageExpectation): string | undefined {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  if (view.getUint32(0, true) !== MAGIC_WORD) return 'it is no metadata page';
  if (!checksumMatches(page, view)) return 'its checksum does not match';
  if (view.getUint16(VERSION_OFFSET, true) !== PAGE_VERSION) return 'its version is not known';
  if (view.getUint16(TYPE_OFFSET, true) !== expected.type) return 'it is a page of another type';
  if (getU64(view, INDEX_OFFSET) !== expected.index) return 'it is the page of another index';
  if (!uuidMatches(page, expected.diskUuid)) return 'it belongs to another disk';
  if (getU64(view, PLACE_OFFSET) !== expected.place) return 'it belongs to another place';
  if (expected.generation !== undefined && getU64(view, GENERATION_OFFSET) !== expected.generation) {
    return `it is stale: generation ${getU64(view, GENERATION_OFFSET)}, not ${expected.generation}`;
  }
  return undefined;
}

function checksumMatches(page: Uint8Array, view: DataView): boolean {
  const stored = view.getUint32(CRC_OFFSET, true);
  view.setUint32(CRC_OFFSET, 0, true);
  const computed = crc32c(page);
  view.setUint32(CRC_OFFSET, stored, true);
  return computed === stored;
}

let knownUuid = '';
let knownBytes: Uint8Array = new Uint8Array(16);

function uuidMatches(page: Uint8Array, diskUuid: string): boolean {
  if (diskUuid !== knownUuid) {
    knownBytes = parseUuid(diskUuid);
    knownUuid = diskUuid;
  }
  return Buffer.compare(page.subarray(UUID_OFFSET, UUID_OFFSET + 16), knownBytes) === 0;
}

export function pageGeneration(page: Uint8Array): number {
  return getU64(new DataView(page.buffer, page.byteOffset, page.length), GENERATION_OFFSET);
}

export function pageType(page: Uint8Array): number {
  return new DataView(page.buffer, page.byteOffset, page.length).getUint16(TYPE_OFFSET, true);
}

export function pageIndex(page: Uint8Array): number {
  return getU64(new DataView(page.buffer, page.byteOffset, page.length), INDEX_OFFSET);
}

export function pageUuid(page: Uint8Array): string {
  return formatUuid(page.subarray(UUID_OFFSET, UUID_OFFSET + 16));
}

/** An unsigned 64-bit number; past 2^53 − 1 it is not exact, and then equals nothing that is expected. */
export function getU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true);
}

export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}
