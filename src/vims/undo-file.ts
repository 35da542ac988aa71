/**
 * The undo file of a repair: what was overwritten, so that it can be put back exactly.
 *
 *     head     48 bytes: magic, version, checksum, volume, checksum of its slot
 *     record   24 bytes: offset, device, length, checksum; then the bytes that were there
 *     record   …
 *
 * Records are durable before the bytes they save are overwritten. So a record that is cut short or whose checksum
 * does not match, and all behind it, saved nothing that was lost.
 *
 * Every attach writes the slot: when that is another one than it was, the volume has been in use since, and what was
 * there before belongs there no more.
 */
import { VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import { crc32c } from '../binary/crc32c.ts';
import { ascii, u32le, u64le, uuid } from '../binary/field-types.ts';
import { type Layout, layout } from '../binary/layout.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { openFile } from '../device/files.ts';
import { DeviceSet } from './device-set.ts';
import { BLOCK } from './geometry.ts';
import { slotAddress } from './slot.ts';

const UNDO_MAGIC = 'VIMSUNDO';
const UNDO_VERSION = 1;

interface UndoHead {
  readonly magic: string;
  readonly version: number;
  readonly crc: number;
  readonly volume: string;
  readonly devices: number;
  readonly slotCrc: number;
  readonly reserved: number;
}
export const undoHeadLayout: Layout<UndoHead> = layout<UndoHead>('undo file head', 48, {
  magic: [0, ascii(8), '`VIMSUNDO`'],
  version: [8, u32le, '1'],
  crc: [12, u32le, 'CRC32C of the head with this field zero'],
  volume: [16, uuid, 'the volume that was repaired'],
  devices: [32, u32le, 'devices that it had'],
  slotCrc: [36, u32le, 'CRC32C of the block of slot 0 before the repair, and after it'],
  reserved: [40, u64le, '0'],
});

interface UndoRecord {
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
  readonly device: number;
  readonly reserved: number;
}
export const undoRecordLayout: Layout<UndoRecord> = layout<UndoRecord>('undo record', 24, {
  offset: [0, u64le, 'where the bytes were on the device'],
  length: [8, u32le, 'how many follow this record'],
  crc: [12, u32le, 'CRC32C of the record with this field zero, and of the bytes'],
  device: [16, u32le, 'the device, from 0'],
  reserved: [20, u32le, '0'],
});

const CRC_OFFSET = 12;
const LENGTH_OFFSET = 8;

/** Bytes of one device. */
export interface DeviceRange {
  readonly device: number;
  readonly offset: number;
  readonly length: number;
}

/**
 * Saves ranges that are going to be overwritten in a new file; durable when this resolves.
 *
 * @throws VimgError `EXISTS` when there is a file of this name: it may hold an earlier repair's bytes; `NO_SPACE`, `IO`
 */
export async function saveUndo(
  path: string,
  devices: readonly BlockDevice[],
  volume: string,
  ranges: readonly DeviceRange[],
): Promise<void> {
  const undo = await openFile(path, { readOnly: false, create: 'exclusive', lock: 'write' });
  try {
    let end = 0;
    const append = async (bytes: Uint8Array): Promise<void> => {
      new DataView(bytes.buffer, bytes.byteOffset).setUint32(CRC_OFFSET, crc32c(bytes), true);
      await undo.pwrite(bytes, end);
      end += bytes.length;
    };
    const head = { magic: UNDO_MAGIC, version: UNDO_VERSION, crc: 0, volume, devices: devices.length };
    await append(undoHeadLayout.encode({ ...head, slotCrc: await slotCrc(devices), reserved: 0 }));
    for (const { device, offset, length } of ranges) {
      const bytes = new Uint8Array(undoRecordLayout.size + length);
      undoRecordLayout.encode({ offset, length, crc: 0, device, reserved: 0 }, bytes);
      await devices[device]?.pread(bytes.subarray(undoRecordLayout.size), offset);
      await append(bytes);
    }
    await undo.flush();
  } finally {
    await undo.close();
  }
}

async function slotCrc(devices: readonly BlockDevice[]): Promise<number> {
  const bytes = new Uint8Array(BLOCK);
  await new DeviceSet(devices).readBlock(bytes, slotAddress(0));
  return crc32c(bytes);
}

/**
 * Puts back everything that a repair overwrote, last first; durable when this resolves. Doing it again changes nothing.
 *
 * @param devices of the volume, in their order; nobody may have it attached
 * @throws VimgError `INVALID_FORMAT` when the file is no undo file; `USAGE` when it belongs to other devices, or when
 *   the volume has been attached since; `IO`
 */
export async function undoRepair(devices: readonly BlockDevice[], undoPath: string): Promise<void> {
  const undo = await openFile(undoPath, { readOnly: true });
  try {
    const head = await readHead(undo);
    if (head.devices !== devices.length || head.slotCrc !== (await slotCrc(devices))) {
      throw new VimgError('USAGE', `The undo file '${undoPath}' belongs to another state of the volume`, {
        op: 'undo',
        hint: 'a repair can be undone until the volume is attached the next time',
      });
    }
    for (const { device, offset, bytes } of await readRecords(undo)) {
      await devices[device]?.pwrite(bytes, offset);
    }
    await new DeviceSet(devices).flush();
  } finally {
    await undo.close();
  }
}

async function readHead(undo: BlockDevice): Promise<UndoHead> {
  const bytes = new Uint8Array(undoHeadLayout.size);
  if (undo.size >= bytes.length) await undo.pread(bytes, 0);
  if (!takeChecksum(bytes) || Buffer.from(bytes.subarray(0, 8)).toString('latin1') !== UNDO_MAGIC) {
    throw new VimgError('INVALID_FORMAT', 'This is no undo file of a repair of a volume', {
      path: undo.name,
    });
  }
  const head = undoHeadLayout.decode(bytes);
  if (head.version === UNDO_VERSION) return head;
  throw new VimgError('UNSUPPORTED', `Undo files of version ${head.version} are not known`, {
    path: undo.name,
  });
}

/** The whole records, last first. */
async function readRecords(
  undo: BlockDevice,
): Promise<{ device: number; offset: number; bytes: Uint8Array }[]> {
  const records: { device: number; offset: number; bytes: Uint8Array }[] = [];
  for (let at = undoHeadLayout.size; at + undoRecordLayout.size <= undo.size; ) {
    const start = new Uint8Array(undoRecordLayout.size);
    await undo.pread(start, at);
    const length = new DataView(start.buffer).getUint32(LENGTH_OFFSET, true);
    const end = at + undoRecordLayout.size + length;
    if (length > LIMITS.structure || end > undo.size) break;
    const bytes = new Uint8Array(undoRecordLayout.size + length);
    await undo.pread(bytes, at);
    if (!takeChecksum(bytes)) break;
    const { device, offset } = undoRecordLayout.decode(bytes);
    records.push({ device, offset, bytes: bytes.subarray(undoRecordLayout.size) });
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
