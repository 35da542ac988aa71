/** Datastores on volumes: one process of the host attaches the volume, the others go through that one. */
import { join } from 'node:path';
import { VimgError } from '../base/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { Environment } from './configuration.ts';
import { changeConfiguration, checkName, readConfiguration } from './configuration.ts';
import type { DatastoreEntry } from './configuration-schema.ts';
import type { Capacity, HeldLock, OpenDatastore } from './datastore.ts';
import { findDatastore, register } from './datastore.ts';
import type { LockTable } from './lock-table.ts';
import { runtimeFolder } from './runtime-folder.ts';
import type { Volume, VolumeCheck } from './volume.ts';
import {
  type DeviceAccess,
  deviceEntry,
  openDevice,
  openVolumeDevices,
  refuseUsed,
  wipeEnds,
} from './volume-devices.ts';
import { VolumePlace } from './volume-place.ts';
import type { AttachedVolume } from './volume-reach.ts';

/**
 * Opens a datastore on a volume; it is attached when it is first used, and may be attached again much later, when the
 * process that has it ends.
 *
 * @param environment where the volume's devices are looked up then: it may have been extended since. Without it, they
 * are those of `entry` for good
 */
export async function openVolumeDatastore(
  entry: DatastoreEntry,
  access: DeviceAccess,
  environment?: Environment,
): Promise<OpenDatastore> {
  const place = new VolumePlace({
    lockPath: await volumeLockPath(entry),
    socketPath: join(await runtimeFolder(), `${entry.uuid}.sock`),
    attach: async (locks) => attach(environment ? await latest(entry, environment) : entry, access, locks),
  });
  return {
    entry,
    files: place,
    capacity: async () => (await place.ask('capacity')) as Capacity,
    locks: async () => (await place.ask('locks')) as HeldLock[],
    extend: async (path) => {
      await place.ask('extend', path);
    },
    grow: async () => (await place.ask('grow')) as number,
    checkVolume: async () => (await place.ask('check')) as VolumeCheck,
    close: () => place.close(),
  };
}

/** What the configuration says of the volume now; what it said before, when it has forgotten it. */
async function latest(entry: DatastoreEntry, environment: Environment): Promise<DatastoreEntry> {
  const { datastores } = await readConfiguration(environment);
  return datastores.find(({ uuid }) => uuid === entry.uuid) ?? entry;
}

/** The file whose lock decides which process of this host attaches a volume. */
export async function volumeLockPath(entry: DatastoreEntry): Promise<string> {
  return join(await runtimeFolder(), `${entry.uuid}.lock`);
}

/** Attaches the volume to this process. @throws VimgError `NOT_FOUND`, `LOCKED`, `CORRUPT` */
async function attach(
  entry: DatastoreEntry,
  access: DeviceAccess,
  locks: LockTable,
): Promise<AttachedVolume> {
  const devices = await openVolumeDevices(entry, access);
  const closeDevices = async (): Promise<void> => {
    for (const device of devices) await device.close();
  };
  let volume: Volume;
  try {
    volume = await access.driver.attach(entry.name, devices);
  } catch (error) {
    await closeDevices();
    throw error;
  }
  return {
    files: volume.files,
    ask: async (question, argument) => {
      switch (question) {
        case 'capacity':
          return volume.capacity();
        case 'locks':
          return locksOf(locks);
        case 'extend': {
          const device = await openDevice(argument ?? '', access);
          devices.push(device);
          return volume.addDevice(device);
        }
        case 'grow':
          return volume.grow();
        case 'check':
          return volume.check();
        default:
          throw new VimgError('UNSUPPORTED', `There is no '${question}' to ask for here`);
      }
    },
    detach: async () => {
      try {
        await volume.detach();
      } finally {
        await closeDevices();
      }
    },
  };
}

function locksOf(table: LockTable): HeldLock[] {
  return table.list().map(({ path, lock }) => ({
    path,
    mode: lock.mode === 'write' ? 'EX' : 'PR',
    sinceMs: lock.sinceMs,
    ...lock.owner,
  }));
}

/**
 * Makes a volume of devices, and registers it as a datastore.
 *
 * @param force also on devices that carry something: it is lost
 * @throws VimgError `EXISTS` saying what a device carries, or when the name is taken; `LOCKED` when one is in use
 */
export async function createVolumeDatastore(
  name: string,
  paths: readonly string[],
  access: DeviceAccess,
  environment: Environment,
  force: boolean,
): Promise<DatastoreEntry> {
  checkName(name, 'datastore');
  const devices: BlockDevice[] = [];
  try {
    for (const path of paths) devices.push(await openDevice(path, access));
    if (!force) for (const device of devices) await refuseUsed(device, access.driver);
    return await register(environment, name, async () => {
      for (const device of devices) await wipeEnds(device);
      const uuid = await access.driver.format(devices);
      return { name, kind: 'vims', uuid, devices: paths.map(deviceEntry) };
    });
  } finally {
    for (const device of devices) await device.close();
  }
}

/** Registers a volume that is there. @throws VimgError `NOT_FOUND` when a device carries none, or one is missing */
export async function addVolumeDatastore(
  name: string,
  paths: readonly string[],
  access: DeviceAccess,
  environment: Environment,
): Promise<DatastoreEntry> {
  checkName(name, 'datastore');
  let uuid: string | undefined;
  let count = 0;
  for (const path of paths) {
    const device = await openDevice(path, access, true);
    try {
      const found = await access.driver.identify(device);
      if (!found || (uuid !== undefined && uuid !== found.uuid)) {
        throw new VimgError(
          'NOT_FOUND',
          found ? 'The device is of another volume' : 'The device carries no volume',
          {
            op: 'add datastore',
            path,
          },
        );
      }
      uuid = found.uuid;
      count = found.devices;
    } finally {
      await device.close();
    }
  }
  if (uuid === undefined || count !== paths.length) {
    throw new VimgError('NOT_FOUND', `The volume has ${count} devices, not ${paths.length}`, {
      hint: 'name all of them',
    });
  }
  const entry: DatastoreEntry = { name, kind: 'vims', uuid, devices: paths.map(deviceEntry) };
  return register(environment, name, () => Promise.resolve(entry));
}

/**
 * Makes a datastore larger: by another device, or by what its devices have grown by.
 *
 * @throws VimgError `EXISTS` saying what the device carries; `UNSUPPORTED` for a directory
 */
export async function extendVolumeDatastore(
  name: string,
  path: string,
  access: DeviceAccess,
  environment: Environment,
  force: boolean,
): Promise<void> {
  const entry = await findDatastore(name, environment);
  const device = await openDevice(path, access);
  try {
    if (!force) await refuseUsed(device, access.driver);
    await wipeEnds(device);
  } finally {
    await device.close();
  }
  // first the name of the device, then its use: a crash in between leaves a name too many, which does no harm
  const withDevice = { ...entry, devices: [...entry.devices, deviceEntry(path)] };
  await changeEntry(environment, withDevice);
  const open = await openVolumeDatastore(entry, access);
  try {
    await open.extend?.(path);
  } catch (error) {
    await changeEntry(environment, entry);
    throw error;
  } finally {
    await open.close();
  }
}

async function changeEntry(environment: Environment, entry: DatastoreEntry): Promise<void> {
  await changeConfiguration(environment, (now) => ({
    ...now,
    datastores: now.datastores.map((each) => (each.name === entry.name ? entry : each)),
  }));
}
