/** Checking the volume of a datastore: by itself while nobody has it attached, else by who has. */
import { isVimgError, VimgError } from '../base/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { FileDevice } from '../device/file-device.ts';
import type { DatastoreEntry } from './configuration-schema.ts';
import type { VolumeCheck, VolumeCheckOptions } from './volume.ts';
import { openVolumeDatastore, volumeLockPath } from './volume-datastore.ts';
import { type DeviceAccess, openVolumeDevices } from './volume-devices.ts';
import { openLock } from './volume-reach.ts';

/**
 * Checks the volume. One that somebody has attached is checked there, at rest: changes of metadata wait meanwhile, reads
 * and writes of what is allocated go on. A repair needs a volume that nobody has attached.
 *
 * @throws VimgError `LOCKED` for a repair of a volume in use; `NOT_FOUND` when a device is missing
 */
export async function checkVolume(
  entry: DatastoreEntry,
  access: DeviceAccess,
  options: VolumeCheckOptions,
): Promise<VolumeCheck> {
  const offline = (): Promise<VolumeCheck> =>
    withDevices(entry, access, options.undoPath === undefined, (devices) =>
      access.driver.check(devices, options),
    );
  let lock: FileDevice;
  try {
    lock = await openLock(await volumeLockPath(entry));
  } catch (error) {
    if (!isVimgError(error, 'LOCKED')) throw error;
    if (options.undoPath !== undefined) throw inUse(entry, error);
    const open = await openVolumeDatastore(entry, access);
    try {
      return (await open.checkVolume?.()) as VolumeCheck;
    } finally {
      await open.close();
    }
  }
  try {
    return await offline();
  } finally {
    await lock.close();
  }
}

function inUse({ name }: DatastoreEntry, cause: VimgError): VimgError {
  const hint = cause.hint ?? 'stop what uses it';
  return new VimgError('LOCKED', `The volume of datastore '${name}' is in use: a repair must be alone`, {
    hint,
    cause,
  });
}

/** Puts back what a repair overwrote. @throws VimgError `LOCKED`, `CORRUPT` for another volume's undo file */
export async function undoVolumeRepair(
  entry: DatastoreEntry,
  access: DeviceAccess,
  undoPath: string,
): Promise<void> {
  const lock = await openLock(await volumeLockPath(entry));
  try {
    await withDevices(entry, access, false, (devices) => access.driver.undoRepair(devices, undoPath));
  } finally {
    await lock.close();
  }
}

async function withDevices<T>(
  entry: DatastoreEntry,
  access: DeviceAccess,
  readOnly: boolean,
  work: (devices: readonly BlockDevice[]) => Promise<T>,
): Promise<T> {
  const devices = await openVolumeDevices(entry, access, readOnly);
  try {
    return await work(devices);
  } finally {
    for (const device of devices) await device.close();
  }
}
