/**
 * The header: two copies, written alternately, so that a torn write of one never costs the disk.
 *
 * Every field is checked against the others before anything uses it: a hostile image has right checksums.
 */
import { invariant, VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { checksumPageCount } from './block-checksums.ts';
import {
  ATTRIBUTE_SLOT_PAGES,
  COMPRESSION_ZSTD,
  DIRECTORIES_LIMIT,
  ENTRIES,
  HEADER_OFFSETS,
  type Header,
  headerLayout,
  INCOMPATIBLE_KNOWN,
  INCOMPATIBLE_SEALED,
  INTENT_DELETE,
  INTENT_MERGE,
  INTENT_TRIM,
  MAGIC,
  PAGE,
  PROVISIONING_THICK,
  SPACE_PAGES,
  STATE_CLEAN,
  STATE_DIRTY,
  VERSION_MAJOR,
} from './layout.ts';

const CRC_OFFSET = 4092;
const BLOCK_SHIFT_MIN = 16;
const BLOCK_SHIFT_MAX = 22;
/** The smallest journal in which every single change fits a transaction. */
export const JOURNAL_SLOT_PAGES_MIN = 16;

/** The header as its page, checksum included. */
export function encodeHeader(header: Header): Uint8Array {
  const page = headerLayout.encode({ ...header, crc: 0 });
  new DataView(page.buffer).setUint32(CRC_OFFSET, crc32c(page), true);
  return page;
}

/**
 * Writes the header: a flush, the next generation into the copy not in use, a flush, then the same into the other
 * copy, so that whichever is damaged later, the remaining one says the same.
 *
 * What was written before is durable before the header changes; that includes the copy that an earlier call wrote
 * last, which is all that is left when this one is torn. When this returns the header is durable.
 */
export async function writeHeader(file: BlockDevice, header: Header): Promise<void> {
  await file.flush();
  await writeCopy(file, header);
  await file.flush();
  await writeCopy(file, header);
}

/** Writes both copies without a flush, into a file that nobody relies on yet. */
export async function writeFirstHeader(file: BlockDevice, header: Header): Promise<void> {
  await writeCopy(file, header);
  await writeCopy(file, header);
}

/** A write that fails does not count: the next one goes to the same copy, which may be torn now. */
async function writeCopy(file: BlockDevice, header: Header): Promise<void> {
  const generation = header.generation + 1;
  await file.pwrite(encodeHeader({ ...header, generation }), HEADER_OFFSETS[generation % 2] as number);
  header.generation = generation;
}

/** What is known of one header copy. */
export interface HeaderCopy {
  readonly offset: number;
  readonly header: Header | undefined;
  /** Why it is not usable. */
  readonly problem: string | undefined;
}

/** Reads both copies, valid or not. */
export async function readHeaderCopies(file: BlockDevice): Promise<HeaderCopy[]> {
  const copies: HeaderCopy[] = [];
  for (const [which, offset] of HEADER_OFFSETS.entries()) {
    if (file.size < offset + PAGE) {
      copies.push({ offset, header: undefined, problem: 'the file ends before it' });
      continue;
    }
    const page = new Uint8Array(PAGE);
    await file.pread(page, offset);
    copies.push(decodeCopy(page, which, offset));
  }
  return copies;
}

function decodeCopy(page: Uint8Array, which: number, offset: number): HeaderCopy {
  const problem = (why: string): HeaderCopy => ({ offset, header: undefined, problem: why });
  if (Buffer.from(page.buffer, 0, 8).toString('latin1') !== MAGIC) return problem('no magic');
  const stored = new DataView(page.buffer).getUint32(CRC_OFFSET, true);
  const clean = page.slice();
  clean.fill(0, CRC_OFFSET);
  if (crc32c(clean) !== stored) return problem('checksum does not match');
  try {
    const header = headerLayout.decode(page);
    if (header.generation % 2 !== which) return problem('the copy of another place');
    return { offset, header, problem: undefined };
  } catch (error) {
    if (error instanceof VimgError) return problem(error.message);
    throw error;
  }
}

/**
 * The header in force: the valid copy with the higher generation.
 *
 * @throws VimgError `INVALID_FORMAT` when neither copy has the magic, `CORRUPT` when neither is whole,
 *   `UNSUPPORTED` for features or versions that this program does not know
 */
export async function readHeader(file: BlockDevice): Promise<Header> {
  const copies = await readHeaderCopies(file);
  const valid = copies.flatMap((copy) => copy.header ?? []).sort((a, b) => b.generation - a.generation);
  const [header] = valid;
  if (!header) {
    if (copies.every((copy) => copy.problem === 'no magic' || copy.problem === 'the file ends before it')) {
      throw new VimgError('INVALID_FORMAT', 'Not a VVD image', { path: file.name });
    }
    const problems = copies.map((copy) => `at ${copy.offset}: ${copy.problem}`).join('; ');
    throw new VimgError('CORRUPT', `Both header copies are damaged (${problems})`, { path: file.name });
  }
  checkFeatures(header, file);
  checkGeometry(header, file);
  return header;
}

function checkFeatures(header: Header, file: BlockDevice): void {
  if (header.versionMajor !== VERSION_MAJOR) {
    throw new VimgError('UNSUPPORTED', `VVD version ${header.versionMajor} is not known to this release`, {
      path: file.name,
      hint: 'a newer vimg may read it',
    });
  }
  const unknown = (header.incompatible & ~INCOMPATIBLE_KNOWN) >>> 0;
  if (unknown !== 0) {
    const names = featureNames(header, 0, unknown).join(', ');
    throw new VimgError('UNSUPPORTED', `The image uses features that this release does not know: ${names}`, {
      path: file.name,
      hint: 'a newer vimg may read it',
    });
  }
}

/** Names of the bits set in `bits`, from the image's own table where it has them. */
export function featureNames(header: Header, set: number, bits: number): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    if (((bits >>> bit) & 1) === 0) continue;
    let name = `bit ${bit}`;
    for (let at = 0; at < header.featureNames.length; at += 32) {
      const row = header.featureNames.subarray(at, at + 32);
      const text = Buffer.from(row.subarray(2)).toString('latin1').replace(/\0.*$/s, '');
      if (row[0] === set && row[1] === bit && /^[\x20-\x7e]+$/.test(text)) name = text;
    }
    names.push(name);
  }
  return names;
}

/** Blocks of a disk, table pages and directory pages that map them. */
export function geometry(
  virtualSize: number,
  blockShift: number,
): { blocks: number; tables: number; directories: number } {
  const blocks = Math.ceil(virtualSize / 2 ** blockShift);
  const tables = Math.ceil(blocks / ENTRIES);
  return { blocks, tables, directories: Math.max(1, Math.ceil(tables / ENTRIES)) };
}

function checkGeometry(header: Header, file: BlockDevice): void {
  const problem = geometryProblem(header, file.size);
  if (problem === undefined) return;
  throw new VimgError('CORRUPT', `The header contradicts itself: ${problem}`, { path: file.name, offset: 0 });
}

/** What is wrong with the header's numbers, if anything. */
export function geometryProblem(header: Header, fileSize: number): string | undefined {
  const { tables, directories } = geometry(header.virtualSize, header.blockShift);
  const blockSize = 2 ** header.blockShift;
  const rules: readonly (readonly [boolean, string])[] = [
    [header.headerLength === PAGE, 'header length'],
    [header.blockShift >= BLOCK_SHIFT_MIN && header.blockShift <= BLOCK_SHIFT_MAX, 'block size'],
    [header.virtualSize % 512 === 0 && header.virtualSize <= LIMITS.virtualSize, 'virtual size'],
    [header.state === STATE_CLEAN || header.state === STATE_DIRTY, 'state'],
    [header.state === STATE_CLEAN || !isSealed(header) || header.intent >= INTENT_MERGE, 'sealed and dirty'],
    [header.compression <= COMPRESSION_ZSTD, 'compression'],
    [header.provisioning <= PROVISIONING_THICK, 'provisioning'],
    [header.intent <= INTENT_DELETE, 'intent'],
    [header.intent !== INTENT_TRIM || header.intentSize === header.virtualSize, 'trim intent'],
    [header.attributesSlot <= 1, 'attribute slot'],
    [header.attributesSlotPages === ATTRIBUTE_SLOT_PAGES, 'attribute slot size'],
    [header.attributesLength <= header.attributesSlotPages * PAGE, 'attribute length'],
    [header.spacePages === SPACE_PAGES, 'space list size'],
    [
      header.journalSlotPages >= JOURNAL_SLOT_PAGES_MIN && header.journalSlotPages * PAGE <= LIMITS.structure,
      'journal size',
    ],
    [header.directoryPages >= directories, 'directory size'],
    [header.directoryPages <= header.directoryCapacity, 'directory capacity'],
    [header.directoryCapacity <= DIRECTORIES_LIMIT, 'directory capacity'],
    [header.dataOffset % blockSize === 0, 'data offset'],
    [header.parentPathLength <= header.parentPath.length, 'parent path'],
    [header.snapshotNameLength <= header.snapshotName.length, 'snapshot name'],
    [header.intentNameLength <= header.intentName.length, 'intent name'],
    [header.groupPathLength <= header.groupPath.length, 'group path'],
    [header.checksumState <= 1, 'checksum state'],
    [header.checksumPages <= checksumPageCount(tables), 'checksum size'],
  ];
  for (const [holds, what] of rules) if (!holds) return what;
  return regionProblem(header, fileSize);
}

/**
 * The fixed regions lie in the file, behind the header, aligned and apart from each other; and none reaches from
 * before the first place of blocks into those.
 */
function regionProblem(header: Header, fileSize: number): string | undefined {
  const regions = fixedRegions(header).sort((a, b) => a.offset - b.offset);
  let end = 2 * PAGE;
  for (const region of regions) {
    if (region.offset % PAGE !== 0) return `${region.name} is not aligned`;
    if (region.offset < end) return `${region.name} overlaps what is before it`;
    end = region.offset + region.length;
    if (!Number.isSafeInteger(end) || region.offset + region.used > fileSize)
      return `${region.name} passes the end of the file`;
    if (region.offset < header.dataOffset && end > header.dataOffset)
      return `${region.name} overlaps the data`;
  }
  if (header.dataOffset < 2 * PAGE) return 'data offset';
  return undefined;
}

/** A part of the file that the header points to. `used`: bytes that must be there. */
export interface Region {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly used: number;
}

/** The regions that the header names, in no order. */
export function fixedRegions(header: Header): Region[] {
  const region = (name: string, offset: number, pages: number, usedPages = pages): Region => ({
    name,
    offset,
    length: pages * PAGE,
    used: usedPages * PAGE,
  });
  const regions = [
    region('attributes', header.attributesOffset, 2 * header.attributesSlotPages, 0),
    region('journal', header.journalOffset, 2 * header.journalSlotPages, 0),
    region('space list', header.spaceOffset, header.spacePages, 1),
    region('directory', header.directoryOffset, header.directoryCapacity, header.directoryPages),
  ];
  if (header.checksumOffset !== 0) {
    regions.push(region('checksums', header.checksumOffset, header.checksumPages, 0));
  }
  return regions;
}

export function isSealed(header: Header): boolean {
  return (header.incompatible & INCOMPATIBLE_SEALED) !== 0;
}

/** Text from a fixed field. @throws VimgError `CORRUPT` when it is not UTF-8 */
export function headerText(field: Uint8Array, length: number): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(field.subarray(0, length));
  } catch {
    throw new VimgError('CORRUPT', 'A name in the header is not UTF-8');
  }
}

/** Puts text into a fixed field. @returns its length in bytes. @throws VimgError `LIMIT` when it does not fit */
export function setHeaderText(field: Uint8Array, text: string, what: string): number {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length > field.length) {
    throw new VimgError('LIMIT', `${what} is longer than ${field.length} bytes`);
  }
  field.fill(0);
  field.set(bytes);
  invariant(bytes.length <= field.length, 'text fits its field');
  return bytes.length;
}

/** A layer that is being merged away: the one disk that may still stand on it, by the content ID it had. */
export function formerIdentity(header: Header): { childUuid: string; contentId: string } | undefined {
  if (header.intent !== INTENT_DELETE) return undefined;
  const [childUuid = '', contentId = ''] = headerText(header.groupPath, header.groupPathLength).split(' ');
  return { childUuid, contentId };
}
