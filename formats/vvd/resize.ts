/**
 * Growing and shrinking, each with one header write at which it happens.
 *
 * Growing first prepares everything past the old end, where nobody looks yet. Shrinking first writes the new size
 * with a trim intent, then clears what is past it; a crash in between is completed by the next open.
 */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { roundUp } from '../../src/base/size.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { geometry, writeHeader } from './header.ts';
import {
  DIRECTORIES_LIMIT,
  ENTRIES,
  type Header,
  INTENT_NONE,
  INTENT_TRIM,
  PAGE,
  PAGE_DIRECTORY,
  PAGE_HEADER,
} from './layout.ts';
import type { Metadata } from './metadata.ts';
import { newPage, sealPage } from './page.ts';

/** What a resize needs of the writer. */
export interface ResizableDisk {
  readonly file: BlockDevice;
  readonly header: Header;
  readonly metadata: Metadata;
  readonly zeroUnit: number;
  flush(): Promise<void>;
  zero(offset: number, length: number, keepAllocated: boolean): void | Promise<void>;
  reserveRegion(length: number): number;
  freeRegion(place: number, length: number): void;
  clearFrom(size: number, tables: number): Promise<void>;
}

const SECTOR = 512;

/** @throws VimgError `LIMIT` past the largest size, `NO_SPACE` */
export async function growDisk(disk: ResizableDisk, size: number, behindSize: number): Promise<void> {
  const { header } = disk;
  checkSize(size);
  const oldSize = header.virtualSize;
  const { directories } = geometry(size, header.blockShift);
  await disk.flush();
  if (directories > header.directoryPages) {
    await addDirectories(disk, directories);
  }
  const hiddenEnd = Math.min(size, roundUp(behindSize, disk.zeroUnit));
  const hiddenStart = roundUp(oldSize, disk.zeroUnit);
  if (hiddenEnd > hiddenStart) {
    await disk.zero(hiddenStart, hiddenEnd - hiddenStart, false);
    await disk.flush();
  }
  await changeHeader(disk, { virtualSize: size });
}

/**
 * Changes the header in memory and on disk. When the write fails nobody knows which of the two is on disk: nothing
 * more is written then, and the next open finds out.
 */
async function changeHeader(disk: ResizableDisk, change: Partial<Header>): Promise<void> {
  Object.assign(disk.header, change);
  try {
    await writeHeader(disk.file, disk.header);
  } catch (error) {
    throw disk.metadata.fail(error);
  }
}

/** Lets the header name more directory pages; those that were never written need not be. */
async function addDirectories(disk: ResizableDisk, directories: number): Promise<void> {
  const { header, file } = disk;
  if (directories > DIRECTORIES_LIMIT) {
    throw new VimgError('LIMIT', 'The disk would be too large for its block size', {
      hint: 'convert it to a disk with larger blocks: -o block_size=4M',
    });
  }
  const { directoryOffset, directoryCapacity } = header;
  if (directories > directoryCapacity) {
    const capacity = Math.min(directories * 2, DIRECTORIES_LIMIT);
    const offset = disk.reserveRegion(capacity * PAGE);
    // the list on disk may still call this place free: it must not once the header names it
    await disk.metadata.commitSpace();
    await copyDirectories(disk, offset);
    await reach(file, offset + directories * PAGE);
    await changeHeader(disk, {
      directoryOffset: offset,
      directoryCapacity: capacity,
      directoryPages: directories,
      sequence: disk.metadata.sequence,
    });
    disk.metadata.forgetDirectories();
    // one that moved before lies among the blocks: its place can be used again
    if (directoryOffset >= header.dataOffset) disk.freeRegion(directoryOffset, directoryCapacity * PAGE);
    return;
  }
  await reach(file, directoryOffset + directories * PAGE);
  await changeHeader(disk, { directoryPages: directories });
}

/** The pages that a header counts lie in the file, written or not. */
async function reach(file: BlockDevice, end: number): Promise<void> {
  if (file.size < end) await file.resize(end);
}

/** Everything is flushed: the pages in memory, which were verified, are those on disk. */
async function copyDirectories(disk: ResizableDisk, target: number): Promise<void> {
  const { file, header } = disk;
  for (let index = 0; index < header.directoryPages; index++) {
    if (!disk.metadata.isDirectoryWritten(index)) continue;
    const { bytes } = await disk.metadata.directory(index);
    const place = target + index * PAGE;
    const page = newPage(PAGE_DIRECTORY, index, header.diskUuid, place);
    page.set(bytes.subarray(PAGE_HEADER), PAGE_HEADER);
    sealPage(page, header.sequence);
    await file.pwrite(page, place);
  }
}

export async function shrinkDisk(disk: ResizableDisk, size: number): Promise<void> {
  checkSize(size);
  await disk.flush();
  await changeHeader(disk, { virtualSize: size, intent: INTENT_TRIM, intentSize: size });
  await finishTrim(disk);
}

/**
 * Clears what is past the end, then drops the intent. Doing it again changes nothing; until it is done nothing else
 * may be written, since the disk could grow over what is still to be cleared.
 */
export async function finishTrim(disk: ResizableDisk): Promise<void> {
  const { header } = disk;
  try {
    await disk.clearFrom(header.intentSize, header.directoryPages * ENTRIES);
    await disk.flush();
  } catch (error) {
    throw disk.metadata.fail(error);
  }
  await changeHeader(disk, { intent: INTENT_NONE, intentSize: 0 });
}

function checkSize(size: number): void {
  if (size > LIMITS.virtualSize)
    throw new VimgError('LIMIT', `A disk has at most ${LIMITS.virtualSize} bytes`);
  if (size % SECTOR !== 0) throw new VimgError('USAGE', 'The size of a disk is a multiple of 512');
}
