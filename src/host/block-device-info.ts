/**
 * What Linux says of a block device: its size, sector and discard granularity. Sources: ioctl_list(2) of
 * <linux/fs.h>; Documentation/ABI/stable/sysfs-block of the kernel.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { libc } from './libc.ts';

const BLKGETSIZE64 = 0x80081272;
const BLKSSZGET = 0x1268;

/** Sysfs counts sizes of block devices in these, whatever the device's own sector is. */
const SYSFS_SECTOR = 512;

/** Bytes of the block device, by ioctl or by sysfs; undefined when neither answers. */
export function blockDeviceSize(fd: number, deviceNumber: number): number | undefined {
  const native = libc();
  if (native !== undefined) {
    const answer = new Uint8Array(8);
    if (native.ioctl(fd, BLKGETSIZE64, answer) === 0) {
      return Number(new DataView(answer.buffer).getBigUint64(0, isLittleEndian()));
    }
  }
  const sectors = readNumber(join(sysfsFolder(deviceNumber), 'size'));
  return sectors === undefined ? undefined : sectors * SYSFS_SECTOR;
}

/** Bytes of the smallest unit that the device reads or writes. */
export function blockDeviceSector(fd: number, deviceNumber: number): number {
  const native = libc();
  if (native !== undefined) {
    const answer = new Uint8Array(4);
    if (native.ioctl(fd, BLKSSZGET, answer) === 0) {
      return new DataView(answer.buffer).getUint32(0, isLittleEndian());
    }
  }
  return readQueueNumber(deviceNumber, 'logical_block_size') ?? SYSFS_SECTOR;
}

/** Bytes that a discard has to cover to free something; 0 when the device has no discard. */
export function blockDeviceDiscardGranularity(deviceNumber: number): number {
  const largest = readQueueNumber(deviceNumber, 'discard_max_bytes') ?? 0;
  return largest === 0 ? 0 : (readQueueNumber(deviceNumber, 'discard_granularity') ?? 0);
}

/** A partition has no queue of its own: it is the one of the disk above it. */
function readQueueNumber(deviceNumber: number, name: string): number | undefined {
  const folder = sysfsFolder(deviceNumber);
  const own = readNumber(join(folder, 'queue', name));
  if (own !== undefined) return own;
  try {
    return readNumber(join(dirname(realpathSync(folder)), 'queue', name));
  } catch {
    return undefined; // sysfs is not mounted, or does not know the device
  }
}

/** Device numbers pack major and minor as makedev(3) does. */
function sysfsFolder(deviceNumber: number): string {
  const high = Math.floor(deviceNumber / 2 ** 32);
  const low = deviceNumber >>> 0;
  const major = ((low >>> 8) & 0xfff) | (high & 0xfffff000);
  const minor = (low & 0xff) | ((low >>> 12) & 0xfff00);
  return `/sys/dev/block/${major}:${minor}`;
}

function readNumber(path: string): number | undefined {
  try {
    const value = Number.parseInt(readFileSync(path, 'ascii'), 10);
    return Number.isFinite(value) ? value : undefined;
  } catch {
    return undefined; // the attribute does not exist on this kernel or for this device
  }
}

function isLittleEndian(): boolean {
  return new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
}
