/**
 * The undo file of a repair: what was overwritten, so that it can be put back exactly.
 *
 *     head     40 bytes: magic, version, checksum, disk, size of the image
 *     record   16 bytes: offset, length, checksum; then the bytes that were there
 *     record   …
 *
 * Records are durable before the bytes they save are overwritten. So a record that is cut short or whose checksum
 * does not match, and all behind it, saved nothing that was lost.
 */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import { ascii, u32le, u64le, uuid } from '../../src/binary/field-types.ts';
import { type Layout, layout } from '../../src/binary/layout.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { openFile } from '../../src/device/files.ts';
import { readHeaderCopies } from './header.ts';

const UNDO_MAGIC = 'VVDUNDO\n';
const UNDO_VERSION = 1;

interface UndoHead {
  magic: string;
  version: number;
  crc: number;
  diskUuid: string;
  fileSize: number;
}
export const undoHeadLayout: Layout<UndoHead> = layout<UndoHead>('undo file head', 40, {
  magic: [0, ascii(8), '"VVDUNDO" and a line feed'],
  version: [8, u32le, '1'],
  crc: [12, u32le, 'CRC32C of the head with this field zero'],
  diskUuid: [16, uuid, 'the disk that was repaired'],
  fileSize: [32, u64le, 'bytes that the image had before'],
});

interface UndoRecord {
  offset: number;
  length: number;
  crc: number;
}
export const undoRecordLayout: Layout<UndoRecord> = layout<UndoRecord>('undo record', 16, {
  offset: [0, u64le, 'where the bytes were in the image'],
  length: [8, u32le, 'how many follow this record'],
  crc: [12, u32le, 'CRC32C of the record with this field zero, and of the bytes'],
});

const CRC_OFFSET = 12;

/** An undo file that is being written. */
export class UndoFile {
  readonly #undo: BlockDevice;
  readonly #image: BlockDevice;
  #end = 0;

  private constructor(undo: BlockDevice, image: BlockDevice) {
    this.#undo = undo;
    this.#image = image;
  }

  /** @throws VimgError `EXISTS` when there is a file of this name: it may hold an earlier repair's bytes */
  static async create(path: string, image: BlockDevice, diskUuid: string): Promise<UndoFile> {
    const undo = await openFile(path, { readOnly: false, create: 'exclusive', lock: 'write' });
    const file = new UndoFile(undo, image);
    const head = { magic: UNDO_MAGIC, version: UNDO_VERSION, crc: 0, diskUuid, fileSize: image.size };
    await file.#append(undoHeadLayout.encode(head));
    return file;
  }

  /** Saves ranges of the image that are going to be overwritten; durable when this returns. */
  async save(ranges: readonly { readonly offset: number; readonly length: number }[]): Promise<void> {
    for (const { offset, length } of ranges) {
      const inside = Math.min(length, this.#image.size - offset);
      if (inside <= 0) continue; // behind the end: putting back the size is enough
      const bytes = new Uint8Array(undoRecordLayout.size + inside);
      undoRecordLayout.encode({ offset, length: inside, crc: 0 }, bytes);
      await this.#image.pread(bytes.subarray(undoRecordLayout.size), offset);
      await this.#append(bytes);
    }
    await this.#undo.flush();
  }

  async #append(bytes: Uint8Array): Promise<void> {
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(CRC_OFFSET, crc32c(bytes), true);
    await this.#undo.pwrite(bytes, this.#end);
    this.#end += bytes.length;
  }

  close(): Promise<void> {
    return this.#undo.close();
  }
}

/**
 * Puts back everything that a repair overwrote, last first; durable when this returns. Doing it again changes nothing.
 *
 * @throws VimgError `INVALID_FORMAT` when the file is no undo file; `USAGE` when it belongs to another disk; `IO`
 */
export async function applyUndo(file: BlockDevice, undoPath: string): Promise<void> {
  const undo = await openFile(undoPath, { readOnly: true });
  try {
    const head = await readHead(undo);
    await refuseOther(file, head, undoPath);
    for (const record of await readRecords(undo)) await file.pwrite(record.bytes, record.offset);
    if (file.limits.growable && file.size > head.fileSize) await file.resize(head.fileSize);
    await file.flush();
  } finally {
    await undo.close();
  }
}

async function readHead(undo: BlockDevice): Promise<UndoHead> {
  const bytes = new Uint8Array(undoHeadLayout.size);
  if (undo.size >= bytes.length) await undo.pread(bytes, 0);
  if (!takeChecksum(bytes) || Buffer.from(bytes.subarray(0, 8)).toString('latin1') !== UNDO_MAGIC) {
    throw new VimgError('INVALID_FORMAT', 'This is no undo file of a VVD repair', { path: undo.name });
  }
  const head = undoHeadLayout.decode(bytes);
  if (head.version !== UNDO_VERSION) {
    throw new VimgError('UNSUPPORTED', `Undo files of version ${head.version} are not known`, {
      path: undo.name,
    });
  }
  return head;
}

/** An image whose header can be read must be the one that was repaired. */
async function refuseOther(file: BlockDevice, head: UndoHead, undoPath: string): Promise<void> {
  const known = (await readHeaderCopies(file)).flatMap((copy) => copy.header?.diskUuid ?? []);
  if (known.length === 0 || known.includes(head.diskUuid)) return;
  throw new VimgError('USAGE', `The undo file '${undoPath}' belongs to another disk`, { path: file.name });
}

/** The whole records, last first. */
async function readRecords(undo: BlockDevice): Promise<{ offset: number; bytes: Uint8Array }[]> {
  const records: { offset: number; bytes: Uint8Array }[] = [];
  for (let at = undoHeadLayout.size; at + undoRecordLayout.size <= undo.size; ) {
    const start = new Uint8Array(undoRecordLayout.size);
    await undo.pread(start, at);
    const length = new DataView(start.buffer).getUint32(8, true);
    const end = at + undoRecordLayout.size + length;
    if (length > LIMITS.structure || end > undo.size) break;
    const bytes = new Uint8Array(undoRecordLayout.size + length);
    await undo.pread(bytes, at);
    if (!takeChecksum(bytes)) break;
    records.push({
      offset: undoRecordLayout.decode(bytes).offset,
      bytes: bytes.subarray(undoRecordLayout.size),
    });
    at = end;
  }
  return records.reverse();
}

/** Whether the checksum matches; it is zero afterwards. */
function takeChecksum(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const stored = view.getUint32(CRC_OFFSET, true);
  view.setUint32(CRC_OFFSET, 0, true);
  return crc32c(bytes) === stored;
}
