/** The checks that every device makes before it touches anything: is the range inside, may it be written. */
import { VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import type { BlockDevice } from './block-device.ts';

/** What the checks need to know of a device. */
export type CheckedDevice = Pick<BlockDevice, 'name' | 'size' | 'limits' | 'readOnly'>;

/** @throws VimgError `OUT_OF_BOUNDS` unless `[offset, offset + length)` lies inside the device */
export function checkInside(device: CheckedDevice, op: string, offset: number, length: number): void {
  if (isRange(offset, length) && offset + length <= device.size) return;
  throw outOfBounds(device, op, offset, length);
}

/**
 * Checks a range that is going to be written. On a growable device it may pass the end.
 *
 * @throws VimgError `READ_ONLY`; `OUT_OF_BOUNDS` outside a device of fixed size; `LIMIT` past 2^53 − 1
 */
export function checkWritable(device: CheckedDevice, op: string, offset: number, length: number): void {
  if (device.readOnly) throw readOnly(device, op);
  if (isRange(offset, length) && (device.limits.growable || offset + length <= device.size)) return;
  if (device.limits.growable && offset + length > LIMITS.offset) {
    throw new VimgError('LIMIT', `${op} would grow the file past 2^53 bytes`, {
      op,
      path: device.name,
      offset,
    });
  }
  throw outOfBounds(device, op, offset, length);
}

/** Checks a range that may be discarded. @throws VimgError `READ_ONLY`, `OUT_OF_BOUNDS` */
export function checkDiscard(device: CheckedDevice, offset: number, length: number): void {
  if (device.readOnly) throw readOnly(device, 'discard');
  checkInside(device, 'discard', offset, length);
}

/** Checks a new size. @throws VimgError `READ_ONLY`, `UNSUPPORTED` for a device of fixed size, `LIMIT` */
export function checkResize(device: CheckedDevice, size: number, resizable: boolean): void {
  if (device.readOnly) throw readOnly(device, 'resize');
  if (!resizable) {
    if (size === device.size) return;
    throw new VimgError('UNSUPPORTED', 'this device has a fixed size', { op: 'resize', path: device.name });
  }
  checkSize(device.name, size);
}

/** @throws VimgError `LIMIT` unless `size` is a size that a device can have: a whole number up to 2^53 − 1 */
export function checkSize(name: string, size: number): void {
  if (isRange(0, size)) return;
  throw new VimgError('LIMIT', `${size} is not a size that a device can have`, { path: name });
}

function isRange(offset: number, length: number): boolean {
  return (
    offset >= 0 &&
    length >= 0 &&
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(length) &&
    offset + length <= LIMITS.offset
  );
}

function readOnly(device: CheckedDevice, op: string): VimgError {
  return new VimgError('READ_ONLY', 'opened for reading only', { op, path: device.name });
}

function outOfBounds(device: CheckedDevice, op: string, offset: number, length: number): VimgError {
  return new VimgError(
    'OUT_OF_BOUNDS',
    `${op} of ${length} bytes at ${offset} passes the end at ${device.size}`,
    { op, path: device.name, offset },
  );
}
