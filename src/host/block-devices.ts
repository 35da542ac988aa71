/**
 * The block devices of the host, as sysfs shows them (Documentation/ABI/stable/sysfs-block and testing/sysfs-block of
 * the kernel; proc(5) for mounts and swap).
 */
import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';

/** How a disk is attached. */
export type Transport = 'local' | 'iscsi' | 'fc';

export interface HostBlockDevice {
  /** `/dev/sda`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** WWN, else serial number, else nothing: what stays the same when the path changes. */
  readonly identity: string | undefined;
  readonly model: string | undefined;
  readonly transport: Transport;
  /** Who uses it now: mount points, swap, devices made from it, partitions in use. */
  readonly usedBy: readonly string[];
}

const SECTOR = 512;

export interface BlockDeviceRoots {
  readonly sys: string;
  readonly proc: string;
}

const ROOTS: BlockDeviceRoots = { sys: '/sys', proc: '/proc' };

/** Every whole disk of some size, sorted by path. Partitions are told by who uses them. */
export function listBlockDevices(roots: BlockDeviceRoots = ROOTS): HostBlockDevice[] {
  const mounts = mountPoints(roots);
  const devices: HostBlockDevice[] = [];
  for (const name of list(join(roots.sys, 'block'))) {
    const folder = join(roots.sys, 'block', name);
    const size = Number(text(join(folder, 'size')) ?? 0) * SECTOR;
    if (!(size > 0)) continue;
    devices.push({
      path: `/dev/${name.replaceAll('!', '/')}`, // sysfs writes the slash of cciss/c0d0 so
      size,
      readOnly: text(join(folder, 'ro')) === '1',
      identity: identityOf(folder),
      model: text(join(folder, 'device/model')),
      transport: transportOf(folder),
      usedBy: usersOf(folder, mounts),
    });
  }
  return devices.sort((a, b) => a.path.localeCompare(b.path, 'en', { numeric: true }));
}

/** Who uses one block device, found by its number; empty when nobody does. */
function usersOf(folder: string, mounts: ReadonlyMap<string, string[]>): string[] {
  const users = [...(mounts.get(text(join(folder, 'dev')) ?? '') ?? [])];
  for (const holder of list(join(folder, 'holders'))) users.push(`/dev/${holder}`);
  for (const name of list(folder)) {
    if (text(join(folder, name, 'partition')) === undefined) continue;
    for (const user of usersOf(join(folder, name), mounts)) users.push(`${user} (/dev/${name})`);
  }
  return users;
}

/** Device numbers (`8:1`) that are mounted or swapped to, and where. */
function mountPoints(roots: BlockDeviceRoots): Map<string, string[]> {
  const points = new Map<string, string[]>();
  const add = (device: string, point: string): void => {
    points.set(device, [...new Set([...(points.get(device) ?? []), point])]);
  };
  for (const line of (text(join(roots.proc, 'self/mountinfo')) ?? '').split('\n')) {
    const [, , device, , point] = line.split(' ');
    if (device !== undefined && point !== undefined) add(device, point);
  }
  for (const line of (text(join(roots.proc, 'swaps')) ?? '').split('\n').slice(1)) {
    const path = line.split(/\s+/)[0] ?? '';
    const number = path.startsWith('/dev/')
      ? text(join(roots.sys, 'class/block', basename(path), 'dev'))
      : undefined;
    if (number !== undefined) add(number, 'swap');
  }
  return points;
}

function identityOf(folder: string): string | undefined {
  for (const place of ['wwid', 'device/wwid', 'dm/uuid', 'device/serial', 'serial']) {
    const found = text(join(folder, place));
    if (found) return found;
  }
  return undefined;
}

/** The path in sysfs shows what the disk hangs on: an iSCSI session, a Fibre Channel remote port. */
function transportOf(folder: string): Transport {
  let path: string;
  try {
    path = realpathSync(folder);
  } catch {
    return 'local'; // gone meanwhile
  }
  if (/\/session\d+\//.test(path)) return 'iscsi';
  return /\/rport-/.test(path) ? 'fc' : 'local';
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // there is no such folder on this kernel, or the device is gone
  }
}

/** The text of an attribute, without the end of its line; undefined when there is none. */
function text(path: string): string | undefined {
  try {
    // a device says of itself what it likes: nothing of it may steer a terminal
    return readFileSync(path, 'utf8')
      .replace(/\n+$/, '')
      .replace(/[^\P{Cc}\n]/gu, '')
      .trim();
  } catch {
    return undefined; // the attribute does not exist
  }
}
