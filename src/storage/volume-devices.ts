/** The devices of volumes: opening them, finding those that moved, and refusing those that carry something. */
import { isVimgError, VimgError } from '../base/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { fileExists, openFile } from '../device/files.ts';
import { listBlockDevices } from '../host/block-devices.ts';
import type { DatastoreEntry, DeviceEntry } from './configuration-schema.ts';
import { describeSignatures, probeSignatures } from './signature.ts';
import type { VolumeDriver } from './volume.ts';

/** Opens devices that are no files of the host: NBD exports. */
export type OpenExport = (uri: string, readOnly: boolean) => Promise<BlockDevice>;

export interface DeviceAccess {
  readonly driver: VolumeDriver;
  readonly openExport?: OpenExport | undefined;
}

const NBD = /^nbds?(\+unix)?:/i;

/** Bytes at both ends of a device that are zeroed before a volume is made on it: no old signature stays. */
const ENDS = 1024 * 1024;

/** Opens a device, alone. @throws VimgError `LOCKED` when it is mounted or in use; `UNSUPPORTED` for a server */
export async function openDevice(path: string, access: DeviceAccess, readOnly = false): Promise<BlockDevice> {
  if (!NBD.test(path)) {
    // the process that has a volume attached serves others: it must not wait for a disk
    return openFile(path, { readOnly, lock: readOnly ? 'none' : 'write', blocking: false });
  }
  if (access.openExport) return access.openExport(path, readOnly);
  throw new VimgError('UNSUPPORTED', 'NBD exports cannot be devices of a volume here', { path });
}

/** Makes sure that all devices of a volume are there. @throws VimgError as `openVolumeDevices` */
export async function findVolume(entry: DatastoreEntry, access: DeviceAccess): Promise<void> {
  for (const device of await openVolumeDevices(entry, access, true)) await device.close();
}

/** What the configuration stores of a device. */
export function deviceEntry(path: string): DeviceEntry {
  const identity = listBlockDevices().find((device) => device.path === path)?.identity;
  return identity === undefined ? { path } : { path, identity };
}

/**
 * Opens all devices of a volume, in their order, wherever they are now: a block device that has another path is found
 * by its identity.
 *
 * @throws VimgError `NOT_FOUND` when one is missing, or carries something else
 */
export async function openVolumeDevices(
  entry: DatastoreEntry,
  access: DeviceAccess,
  readOnly = false,
): Promise<BlockDevice[]> {
  const opened: BlockDevice[] = [];
  const places: BlockDevice[] = [];
  let count = 0;
  try {
    for (const known of entry.devices) {
      const device = await openDevice(await placeOfDevice(known), access, readOnly);
      opened.push(device);
      const found = await access.driver.identify(device);
      if (!found) continue; // may be one that was to be added when a crash came: fine when there are enough
      if (found.uuid !== entry.uuid) throw notHere(entry, device.name, 'another volume');
      places[found.index] = device;
      count = Math.max(count, found.devices);
    }
    for (let index = 0; index < Math.max(count, 1); index++) {
      if (!places[index]) throw notHere(entry, entry.devices[index]?.path ?? '', 'no part of its volume');
    }
    for (const device of opened) if (!places.includes(device)) await device.close();
    return places;
  } catch (error) {
    for (const device of opened) await device.close();
    throw error;
  }
}

function notHere(entry: DatastoreEntry, path: string, what: string): VimgError {
  return new VimgError('NOT_FOUND', `The device of datastore '${entry.name}' carries ${what}`, {
    op: 'open datastore',
    path,
    hint: '`vimg device ls` shows what is where',
  });
}

async function placeOfDevice({ path, identity }: DeviceEntry): Promise<string> {
  if (identity === undefined) return path;
  const devices = listBlockDevices().filter((device) => device.identity === identity);
  if (devices.length === 0 || devices.some((device) => device.path === path)) return path;
  return devices[0]?.path ?? path;
}

/**
 * Makes sure that nothing is lost by putting a volume on a device.
 *
 * @throws VimgError `EXISTS` saying what was found
 */
export async function refuseUsed(device: BlockDevice, driver: VolumeDriver): Promise<void> {
  const found = (await probeSignatures(device)).map((each) => describeSignatures([each]));
  if (found.length === 0 && (await carriesVolume(device, driver))) found.push('volume VIMS');
  if (found.length === 0) return;
  throw new VimgError('EXISTS', `The device carries ${found.join(', ')}`, {
    op: 'create datastore',
    path: device.name,
    hint: 'if nothing on it is needed any more: --force',
  });
}

async function carriesVolume(device: BlockDevice, driver: VolumeDriver): Promise<boolean> {
  try {
    return (await driver.identify(device)) !== undefined;
  } catch (error) {
    if (isVimgError(error, 'CORRUPT')) return true;
    throw error;
  }
}

/** Zeroes both ends, durably. */
export async function wipeEnds(device: BlockDevice): Promise<void> {
  const length = Math.min(ENDS, device.size);
  await device.writeZeroes(0, length);
  await device.writeZeroes(device.size - length, length);
  await device.flush();
}

/** Makes a file that stands for a LUN. @throws VimgError `EXISTS` */
export async function makeLunFile(path: string, size: number): Promise<void> {
  if (await fileExists(path))
    throw new VimgError('EXISTS', 'The file exists already', { op: 'create', path });
  const file = await openFile(path, { create: 'exclusive', lock: 'write' });
  try {
    await file.resize(size);
    await file.flush();
  } finally {
    await file.close();
  }
}
