/**
 * Writing a new VVD file.
 *
 *     0        header, two copies
 *     8 KiB    attributes, two slots
 *              space list, journal (two slots), table directory
 *     data     blocks and table pages, from a multiple of the block size on
 *
 * Only what is read before it is written again takes space: both headers' copies, the attributes in use
 * and one space page. So creating takes constant time, whatever the size of the disk.
 */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { roundUp } from '../../src/base/size.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import { NIL_UUID, newUuid } from '../../src/binary/uuid.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { CreateLayerOptions } from '../../src/image/format-driver.ts';
import { NO_ATTRIBUTES } from './attributes.ts';
import { identityOf } from './backing.ts';
import { ALL_SUB_BLOCKS, entryAt, KIND_DATA, setEntry } from './entry.ts';
import { geometry, JOURNAL_SLOT_PAGES_MIN, setHeaderText, writeFirstHeader } from './header.ts';
import { headPages } from './journal.ts';
import {
  ATTRIBUTE_SLOT_PAGES,
  COMPRESSION_DEFLATE,
  COMPRESSION_NONE,
  COMPRESSION_ZSTD,
  DIRECTORIES_LIMIT,
  DIRECTORY_MAP_BYTES,
  ENTRIES,
  type Header,
  INCOMPATIBLE_COMPRESSED,
  MAGIC,
  PAGE,
  PROVISIONING_LAZY,
  PROVISIONING_THICK,
  PROVISIONING_THIN,
  SPACE_PAGES,
  STATE_CLEAN,
  VERSION_MAJOR,
  VERSION_MINOR,
} from './layout.ts';
import { Metadata } from './metadata.ts';
import { sealPage } from './page.ts';
import { SpaceMap } from './space-map.ts';

const JOURNAL_SLOT_PAGES_MAX = 2048;
/** Directory pages reserved beyond need, as a multiple: growing a disk up to this factor moves nothing. */
const DIRECTORY_RESERVE = 4;
const DEFAULT_BLOCK_SIZE = 128 * 1024;

/** @throws VimgError `USAGE`, `LIMIT` for options out of range; `NO_SPACE`, `IO` */
export async function createVvd(file: BlockDevice, options: CreateLayerOptions): Promise<void> {
  const header = await newHeader(options);
  await writeEmpty(file, header);
  if (header.provisioning !== PROVISIONING_THIN) await provision(file, header);
  await writeFirstHeader(file, header);
}

/** log2 of the block size asked for. @throws VimgError `USAGE`, `LIMIT` for what no VVD disk can be */
function checkedBlockShift(create: CreateLayerOptions): number {
  const { options, virtualSize } = create;
  const blockShift = Math.log2(Number(options['block_size'] ?? DEFAULT_BLOCK_SIZE));
  if (!Number.isInteger(blockShift) || blockShift < 16 || blockShift > 22) {
    throw new VimgError('USAGE', 'The block size is a power of two from 64k to 4M');
  }
  if (virtualSize > LIMITS.virtualSize) throw new VimgError('LIMIT', 'The disk is too large');
  if (create.backing && options['provisioning'] === 'thick') {
    throw new VimgError('USAGE', 'A layer on a parent cannot be thick: that would hide the parent', {
      hint: 'use provisioning=lazy, or copy the disk: vimg convert',
    });
  }
  if (geometry(virtualSize, blockShift).directories > DIRECTORIES_LIMIT) {
    throw new VimgError('LIMIT', 'The disk is too large for its block size', {
      hint: 'create it with larger blocks: -o block_size=4M',
    });
  }
  return blockShift;
}

async function newHeader(create: CreateLayerOptions): Promise<Header> {
  const { options, virtualSize } = create;
  const blockShift = checkedBlockShift(create);
  const compression = compressionCode(String(options['compression'] ?? 'zstd'));
  const { tables, directories } = geometry(virtualSize, blockShift);
  const journalSlotPages = journalPages(options['journal_size'], tables + directories);
  const attributesOffset = 2 * PAGE;
  const spaceOffset = attributesOffset + 2 * ATTRIBUTE_SLOT_PAGES * PAGE;
  const journalOffset = spaceOffset + SPACE_PAGES * PAGE;
  const directoryOffset = journalOffset + 2 * journalSlotPages * PAGE;
  const directoryCapacity = Math.min(directories * DIRECTORY_RESERVE, DIRECTORIES_LIMIT);
  return {
    magic: MAGIC,
    versionMajor: VERSION_MAJOR,
    versionMinor: VERSION_MINOR,
    headerLength: PAGE,
    generation: 0,
    incompatible: compression === COMPRESSION_NONE ? 0 : INCOMPATIBLE_COMPRESSED,
    readOnlyCompatible: 0,
    compatible: 0,
    state: STATE_CLEAN,
    diskUuid: newUuid(),
    contentId: newUuid(),
    ...(await parentFields(create)),
    virtualSize,
    blockShift,
    compression,
    provisioning: provisioningCode(String(options['provisioning'] ?? 'thin')),
    intent: 0,
    intentSize: 0,
    sequence: 0,
    attributesOffset,
    attributesSlotPages: ATTRIBUTE_SLOT_PAGES,
    attributesSlot: 0,
    attributesLength: NO_ATTRIBUTES.length,
    attributesCrc: crc32c(NO_ATTRIBUTES),
    journalOffset,
    journalSlotPages,
    spacePages: SPACE_PAGES,
    spaceOffset,
    directoryOffset,
    directoryPages: directories,
    directoryCapacity,
    dataOffset: roundUp(directoryOffset + directoryCapacity * PAGE, 2 ** blockShift),
    checksumOffset: 0,
    checksumPages: 0,
    checksumState: 0,
    createdMs: Date.now(),
    sealedMs: 0,
    snapshotNameLength: 0,
    intentNameLength: 0,
    groupPathLength: 0,
    snapshotName: new Uint8Array(256),
    intentName: new Uint8Array(256),
    groupPath: new Uint8Array(1024),
    featureNames: encodeFeatureNames(),
    reserved: new Uint8Array(740),
    crc: 0,
  };
}

async function parentFields(
  create: CreateLayerOptions,
): Promise<
  Pick<Header, 'parentUuid' | 'parentContentId' | 'parentFormat' | 'parentPath' | 'parentPathLength'>
> {
  const parentPath = new Uint8Array(1024);
  const { backing } = create;
  if (!backing) {
    return {
      parentUuid: NIL_UUID,
      parentContentId: NIL_UUID,
      parentFormat: '',
      parentPath,
      parentPathLength: 0,
    };
  }
  if (!backing.layer) {
    throw new VimgError('USAGE', 'A VVD layer is made on a parent that can be opened', {
      hint: 'leave out -u: the child records who its parent is',
    });
  }
  const { uuid, contentId } = await identityOf(backing.layer);
  const parentPathLength = setHeaderText(parentPath, backing.path, 'The path of the parent');
  return {
    parentUuid: uuid,
    parentContentId: contentId,
    parentFormat: backing.layer.format,
    parentPath,
    parentPathLength,
  };
}

function encodeFeatureNames(): Uint8Array {
  const table = Buffer.alloc(512);
  const names = ['sealed', 'compressed blocks'];
  for (const [bit, name] of names.entries()) {
    table.writeUInt8(0, bit * 32);
    table.writeUInt8(bit, bit * 32 + 1);
    table.write(name, bit * 32 + 2, 'latin1');
  }
  return table;
}

function journalPages(option: unknown, metadataPages: number): number {
  if (option !== undefined) {
    const pages = Math.floor(Number(option) / 2 / PAGE);
    if (pages < JOURNAL_SLOT_PAGES_MIN || pages > 4 * JOURNAL_SLOT_PAGES_MAX) {
      throw new VimgError('USAGE', 'The journal has from 128k to 64M');
    }
    return pages;
  }
  const images = metadataPages + SPACE_PAGES + 4;
  return Math.min(Math.max(2 * JOURNAL_SLOT_PAGES_MIN, images + headPages(images)), JOURNAL_SLOT_PAGES_MAX);
}

function compressionCode(name: string): number {
  if (name === 'deflate') return COMPRESSION_DEFLATE;
  return name === 'zstd' ? COMPRESSION_ZSTD : COMPRESSION_NONE;
}

function provisioningCode(name: string): number {
  if (name === 'lazy') return PROVISIONING_LAZY;
  return name === 'thick' ? PROVISIONING_THICK : PROVISIONING_THIN;
}

/** Everything but the header: the file is no VVD image before that is written. */
async function writeEmpty(file: BlockDevice, header: Header): Promise<void> {
  await file.resize(header.dataOffset);
  await file.pwrite(NO_ATTRIBUTES, header.attributesOffset);
  await file.writeZeroes(header.spaceOffset, header.spacePages * PAGE, { keepAllocated: true });
  const [space] = emptySpace(header).pages(header.diskUuid, header.spaceOffset);
  if (space) {
    sealPage(space, 0);
    await file.pwrite(space, header.spaceOffset);
  }
}

function emptySpace(header: Header): SpaceMap {
  const head = {
    spaceEnd: header.dataOffset,
    metadataNext: 0,
    metadataEnd: 0,
    directoriesWritten: new Uint8Array(DIRECTORY_MAP_BYTES),
  };
  return new SpaceMap(head, [], 2 ** header.blockShift, () => undefined);
}

/** Gives every block its place now: lazy takes the space, thick also writes zeroes into it. */
async function provision(file: BlockDevice, header: Header): Promise<void> {
  const space = emptySpace(header);
  const metadata = new Metadata(file, header, space, true);
  const blockSize = 2 ** header.blockShift;
  const { blocks } = geometry(header.virtualSize, header.blockShift);
  const thick = header.provisioning === PROVISIONING_THICK;
  // with a parent nothing is stored yet, and nothing hidden: the parent shows through
  const zero = thick || header.parentPathLength > 0 ? 0 : ALL_SUB_BLOCKS;
  for (let block = 0; block < blocks; ) {
    if (!metadata.hasRoom(1)) await metadata.commit();
    const page = await metadata.tableForWrite(Math.floor(block / ENTRIES));
    const count = Math.min(ENTRIES, blocks - block);
    const { place } = space.takeBlocks(count);
    space.mapped(place);
    if (thick) await writeZeroData(file, place, count * blockSize);
    else await file.writeZeroes(place, count * blockSize, { keepAllocated: true });
    for (let i = 0; i < count; i++) {
      const at = entryAt((block + i) % ENTRIES);
      setEntry(page.view, at, KIND_DATA, place + i * blockSize, thick ? ALL_SUB_BLOCKS : 0, zero);
    }
    metadata.changed(page);
    block += count;
    if (!metadata.hasRoom(1)) await metadata.commit(); // so that memory does not grow with the disk
  }
  await metadata.commit();
  header.sequence = metadata.sequence;
}

async function writeZeroData(file: BlockDevice, place: number, length: number): Promise<void> {
  const zeroes = new Uint8Array(1024 * 1024);
  for (let at = 0; at < length; at += zeroes.length) {
    await file.pwrite(zeroes.subarray(0, Math.min(zeroes.length, length - at)), place + at);
  }
}
