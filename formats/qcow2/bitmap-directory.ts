/**
 * The directory of persistent bitmaps (QEMU docs/interop/qcow2, "Bitmaps extension" and "Bitmap directory").
 *
 * vimg shows the bitmaps and checks their space; it does not use them. The data counts only while the autoclear bit
 * says that whoever wrote last knew of bitmaps; otherwise there are none.
 */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { Qcow2Header } from './header.ts';
import { decodeName } from './header-extensions.ts';
import { bitmapEntryLayout } from './layout.ts';
import { checkPlace, decodeOffset } from './metadata-region.ts';

const BITMAPS_MAX = 65535;
const NAME_BYTES_MAX = 1023;

const FLAG_IN_USE = 1;
const FLAG_AUTO = 2;

/** One bitmap of the directory. */
export interface Qcow2Bitmap {
  readonly name: string;
  /** Guest bytes that one bit stands for. */
  readonly granularity: number;
  readonly inUse: boolean;
  readonly auto: boolean;
  readonly tableOffset: number;
  readonly tableSize: number;
}

/** The bitmaps, and where their directory is. */
export interface BitmapDirectory {
  readonly bitmaps: readonly Qcow2Bitmap[];
  readonly offset: number;
  readonly length: number;
}

/**
 * Judges the bitmaps extension, without reading the directory.
 *
 * @returns where the directory is; nothing when the image has no bitmaps that count
 * @throws VimgError `INVALID_FORMAT`, `LIMIT`
 */
export function locateBitmapDirectory(
  header: Qcow2Header,
  fileSize: number,
): { offset: number; length: number; count: number } | undefined {
  const extension = header.extensions.bitmaps;
  if (extension === undefined || !header.bitmapsConsistent) return undefined;
  const { count } = extension;
  if (count === 0) throw invalid('the bitmaps extension counts no bitmap');
  if (count > BITMAPS_MAX)
    throw new VimgError('LIMIT', `the image has ${count} bitmaps`, { op: 'read bitmaps' });
  if (extension.reserved !== 0) throw invalid('reserved bytes of the bitmaps extension are set');
  const length = decodeOffset(extension.directorySize, 'the end of the bitmap directory', 8);
  if (length > LIMITS.structure) {
    throw new VimgError('LIMIT', `the bitmap directory has ${length} bytes`, { op: 'read bitmaps' });
  }
  if (length < count * bitmapEntryLayout.size) throw invalid(`${count} bitmaps do not fit ${length} bytes`);
  const offset = decodeOffset(extension.directoryOffset, 'the bitmap directory', 16);
  checkPlace({ what: 'the bitmap directory', offset, length }, header.clusterSize, fileSize);
  return { offset, length, count };
}

/** Reads the directory. @throws VimgError `INVALID_FORMAT`, `LIMIT`, `IO` */
export async function readBitmapDirectory(
  file: BlockDevice,
  header: Qcow2Header,
): Promise<BitmapDirectory | undefined> {
  const place = locateBitmapDirectory(header, file.size);
  if (place === undefined) return undefined;
  if (place.offset + place.length > file.size) throw invalid('the file ends inside the bitmap directory');
  const bytes = new Uint8Array(place.length);
  await file.pread(bytes, place.offset);
  const bitmaps: Qcow2Bitmap[] = [];
  let at = 0;
  while (at < bytes.length && bitmaps.length < place.count) {
    const entry = bitmapEntryLayout.decode(bytes, at);
    const nameAt = at + bitmapEntryLayout.size + entry.extraDataSize;
    if (entry.nameSize === 0 || entry.nameSize > NAME_BYTES_MAX || nameAt + entry.nameSize > bytes.length) {
      throw invalid(`bitmap ${bitmaps.length} has a name of ${entry.nameSize} bytes that does not fit`);
    }
    if (entry.type !== 1) throw invalid(`bitmap ${bitmaps.length} has the unknown type ${entry.type}`);
    if (entry.granularityBits > 63)
      throw invalid(`bitmap ${bitmaps.length} has a granularity of 2^${entry.granularityBits}`);
    bitmaps.push({
      name: decodeName(bytes.subarray(nameAt, nameAt + entry.nameSize), 'the name of a bitmap'),
      granularity: 2 ** entry.granularityBits,
      inUse: (entry.flags & FLAG_IN_USE) !== 0,
      auto: (entry.flags & FLAG_AUTO) !== 0,
      tableOffset: decodeOffset(entry.tableOffset, 'a bitmap table', place.offset + at),
      tableSize: entry.tableSize,
    });
    at = Math.ceil((nameAt + entry.nameSize) / 8) * 8;
  }
  if (bitmaps.length !== place.count)
    throw invalid(`the directory holds ${bitmaps.length} of ${place.count} bitmaps`);
  return { bitmaps, offset: place.offset, length: place.length };
}

/** The list under `bitmaps` that `qemu-img info --output=json` prints. */
export function describeBitmaps(directory: BitmapDirectory): Record<string, unknown>[] {
  return directory.bitmaps.map((bitmap) => ({
    flags: [...(bitmap.inUse ? ['in-use'] : []), ...(bitmap.auto ? ['auto'] : [])],
    name: bitmap.name,
    granularity: bitmap.granularity,
  }));
}

function invalid(message: string): VimgError {
  return new VimgError('INVALID_FORMAT', message, { op: 'read bitmaps' });
}
