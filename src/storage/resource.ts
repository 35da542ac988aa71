/** Storage resources, and the devices that are found in them. */
import { isVimgError, VimgError } from '../base/errors.ts';
import { joinPath } from '../device/file-path.ts';
import { fileStatus, listFolder, openFile } from '../device/files.ts';
import { type HostBlockDevice, listBlockDevices, type Transport } from '../host/block-devices.ts';
import { changeConfiguration, checkName, type Environment, readConfiguration } from './configuration.ts';
import type { Configuration, ResourceEntry, ResourceKind } from './configuration-schema.ts';
import { MARKER } from './directory-files.ts';
import { describeSignatures, probeSignatures } from './signature.ts';

/** A device of a resource, as it is now. */
export interface FoundDevice {
  readonly resource: string;
  /** `lun`: a block device, a file standing for one, an export. `folder`: for a directory datastore. */
  readonly kind: 'lun' | 'folder';
  readonly path: string;
  /** Bytes; undefined for a folder, and for what cannot be opened. */
  readonly size: number | undefined;
  readonly identity: string | undefined;
  readonly model: string | undefined;
  /** Which datastore of this host stands on it. */
  readonly datastore: string | undefined;
  /** What it carries, or who uses it; empty for a device that is free. */
  readonly inUse: string;
}

/** A device, before it is known whose it is. */
type Found = Omit<FoundDevice, 'resource' | 'datastore'>;

const TRANSPORT_OF: Readonly<Partial<Record<ResourceKind, Transport>>> = {
  local: 'local',
  'ip-san': 'iscsi',
  'fc-san': 'fc',
};

/** Files in one folder that are looked at. */
const FOLDER_LIMIT = 10_000;

/**
 * Names a resource.
 *
 * @throws VimgError `EXISTS`; `USAGE` for a NAS or a pool without a location; `NOT_FOUND` for a folder that is missing
 */
export async function addResource(resource: ResourceEntry, environment: Environment): Promise<void> {
  checkName(resource.name, 'resource');
  const { kind, location } = resource;
  if (location === undefined && TRANSPORT_OF[kind] === undefined) {
    throw new VimgError('USAGE', `A resource of kind ${kind} has a location`, {
      hint: 'name its folder',
    });
  }
  if (location !== undefined && (await fileStatus(location))?.kind !== 'folder') {
    throw new VimgError('NOT_FOUND', 'There is no such folder', { op: 'add resource', path: location });
  }
  await changeConfiguration(environment, (now) => {
    if (now.resources.some(({ name }) => name === resource.name)) {
      throw new VimgError('EXISTS', `There is a resource '${resource.name}' already`);
    }
    return { ...now, resources: [...now.resources, resource] };
  });
}

/** Forgets a resource; nothing on it changes. @throws VimgError `NOT_FOUND` */
export async function forgetResource(name: string, environment: Environment): Promise<void> {
  await changeConfiguration(environment, (now) => {
    findResource(now, name);
    return { ...now, resources: now.resources.filter((resource) => resource.name !== name) };
  });
}

/** @throws VimgError `NOT_FOUND` naming those that there are */
export function findResource(configuration: Configuration, name: string): ResourceEntry {
  const found = configuration.resources.find((resource) => resource.name === name);
  if (found) return found;
  const names = configuration.resources.map((resource) => resource.name).join(', ');
  throw new VimgError('NOT_FOUND', `There is no resource '${name}'`, {
    hint:
      names === '' ? 'name one: vimg resource add NAME KIND [LOCATION]' : `resources of this host: ${names}`,
  });
}

/** Looks what devices a resource has, what they carry, and who uses them. Opens them for reading only. */
export async function scanResource(
  resource: ResourceEntry,
  environment: Environment,
): Promise<FoundDevice[]> {
  const { datastores } = await readConfiguration(environment);
  const users = new Map(
    datastores.flatMap(({ name, devices }) => devices.map(({ path }) => [path, name] as const)),
  );
  const { kind, location } = resource;
  const found =
    location === undefined
      ? await scanBlockDevices(TRANSPORT_OF[kind] ?? 'local')
      : await scanFolder(location, kind);
  return found.map((device) => ({ ...device, resource: resource.name, datastore: users.get(device.path) }));
}

async function scanBlockDevices(transport: Transport): Promise<Found[]> {
  const devices = listBlockDevices().filter((device) => device.transport === transport);
  return Promise.all(devices.map(async (device) => blockDevice(device, await contentOf(device.path))));
}

function blockDevice(device: HostBlockDevice, content: string): Found {
  const { path, size, identity, model, usedBy, readOnly } = device;
  const uses = usedBy.length === 0 ? [] : [`used: ${usedBy.join(', ')}`];
  const inUse = [...uses, content, readOnly ? 'read-only' : ''].filter((part) => part !== '').join('; ');
  return { kind: 'lun', path, size, identity, model, inUse };
}

/** A folder is a device itself, and so are its folders; on a local disk its files may stand for LUNs. */
async function scanFolder(location: string, kind: ResourceKind): Promise<Found[]> {
  const found = [await folderDevice(location)];
  for (const name of (await listFolder(location)).sort().slice(0, FOLDER_LIMIT)) {
    const path = joinPath(location, name);
    const status = name.startsWith('.') ? undefined : await fileStatus(path);
    if (status?.kind === 'folder') found.push(await folderDevice(path));
    if (status?.kind !== 'file' || kind === 'nas') continue;
    const inUse = await contentOf(path);
    found.push({ kind: 'lun', path, size: status.size, identity: undefined, model: undefined, inUse });
  }
  return found;
}

async function folderDevice(path: string): Promise<Found> {
  const inUse = (await listFolder(path)).includes(MARKER) ? 'directory datastore' : '';
  return { kind: 'folder', path, size: undefined, identity: undefined, model: undefined, inUse };
}

/** What a device or a file carries; why it cannot be told, when it cannot be opened. */
async function contentOf(path: string): Promise<string> {
  try {
    const device = await openFile(path, { readOnly: true });
    try {
      return describeSignatures(await probeSignatures(device));
    } finally {
      await device.close();
    }
  } catch (error) {
    if (isVimgError(error)) return `cannot be looked at: ${error.message}`;
    throw error;
  }
}
