/**
 * Copies that the kernel makes by itself, between files: where the source stores a range as it is, and the target is a
 * raw file. Nothing passes through this process; on a file system that shares extents nothing is moved at all. Zeroes
 * in data are not looked for.
 */
import type { BlockDevice } from '../device/block-device.ts';
import { FileDevice } from '../device/file-device.ts';
import { DiskImage } from '../image/disk-image.ts';

/** Copies a range of data. False: it must be read and written; some of it may have been copied. */
export type CopyOffload = (offset: number, length: number) => Promise<boolean>;

/** How ranges of these two are copied by the kernel; nothing when they never are. */
export function copyOffload(source: BlockDevice, target: DiskImage): CopyOffload | undefined {
  const { file, unit } = target.top;
  // what is stored byte for byte and without a table has the unit 1: raw
  if (!(source instanceof DiskImage && file instanceof FileDevice && unit === 1)) return undefined;
  return async (offset, length) => {
    for (let at = offset; at < offset + length; ) {
      const stored = await source.storedAt(at, offset + length - at);
      if (!(stored?.device instanceof FileDevice)) return false;
      if (!(await file.copyFrom(stored.device, stored.deviceOffset, at, stored.length))) return false;
      at += stored.length;
    }
    return true;
  };
}
