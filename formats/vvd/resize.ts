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
  const { header, file } = disk;
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
  header.virtualSize = size;
  await writeHeader(file, header);
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
  const moves = directories > directoryCapacity;
  if (moves) {
    const capacity = Math.min(directories * 2, DIRECTORIES_LIMIT);
    const offset = disk.reserveRegion(capacity * PAGE);
    // the list on disk may still call this place free: it must not once the header names it
    await disk.metadata.commitSpace();
    await copyDirectories(disk, offset);
    await file.resize(Math.max(file.size, offset + directories * PAGE));
    header.directoryOffset = offset;
    header.directoryCapacity = capacity;
    header.sequence = disk.metadata.sequence;
  }
  header.directoryPages = directories;
  await writeHeader(file, header);
  if (!moves) return;
  disk.metadata.forgetDirectories();
  // one that moved before lies among the blocks: its place can be used again
  if (directoryOffset >= header.dataOffset) disk.freeRegion(directoryOffset, directoryCapacity * PAGE);
}

/** Everything is flushed and in place: the pages on disk are the present ones. */
async function copyDirectories(disk: ResizableDisk, target: number): Promise<void> {
  const { file, header } = disk;
  for (let index = 0; index < header.directoryPages; index++) {
    if (!disk.metadata.isDirectoryWritten(index)) continue;
    const bytes = new Uint8Array(PAGE);
    await file.pread(bytes, header.directoryOffset + index * PAGE);
    const place = target + index * PAGE;
    const page = newPage(PAGE_DIRECTORY, index, header.diskUuid, place);
    page.set(bytes.subarray(64), 64);
    sealPage(page, header.sequence);
    await file.pwrite(page, place);
  }
}

export async function shrinkDisk(disk: ResizableDisk, size: number): Promise<void> {
  const { header, file } = disk;
  checkSize(size);
  await disk.flush();
  header.virtualSize = size;
  header.intent = INTENT_TRIM;
  header.intentSize = size;
  await writeHeader(file, header);
  await finishTrim(disk);
}

/** Clears what is past the end, then drops the intent. Doing it again changes nothing. */
export async function finishTrim(disk: ResizableDisk): Promise<void> {
  const { header, file } = disk;
  await disk.clearFrom(header.intentSize, header.directoryPages * ENTRIES);
  await disk.flush();
  header.intent = INTENT_NONE;
  header.intentSize = 0;
  await writeHeader(file, header);
}

function checkSize(size: number): void {
  if (size > LIMITS.virtualSize)
    throw new VimgError('LIMIT', `A disk has at most ${LIMITS.virtualSize} bytes`);
  if (size % SECTOR !== 0) throw new VimgError('USAGE', 'The size of a disk is a multiple of 512');
}
