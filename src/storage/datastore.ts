/** Datastores: where disks live, whatever they are built on. */
import { statfs } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import { newUuid } from '../binary/uuid.ts';
import type { FileSystem } from '../device/file-system.ts';
import { fileStatus, listFolder, openFile, realPath } from '../device/files.ts';
import { replaceFile } from '../host/atomic-file.ts';
import { lockModeOf } from '../host/file-lock.ts';
import { listFileLocks } from '../host/processes.ts';
import { changeConfiguration, checkName, type Environment, readConfiguration } from './configuration.ts';
import type { DatastoreEntry } from './configuration-schema.ts';
import { DirectoryFiles, MARKER } from './directory-files.ts';
import { filesBelow } from './files-below.ts';
import type { VolumeCheck } from './volume.ts';

/** What a datastore's storage holds, in bytes. */
export interface Capacity {
  readonly capacity: number;
  readonly used: number;
  /** What can be written still. */
  readonly free: number;
}

/** A lock on a file of a datastore. */
export interface HeldLock {
  readonly path: string;
  /** EX: a writer, alone. PR: a reader; writers are kept out. */
  readonly mode: 'EX' | 'PR';
  readonly host: string;
  readonly pid: number;
  readonly program: string;
  readonly command: string;
  /** Since then at the earliest. */
  readonly sinceMs: number | undefined;
}

/** A datastore in use by this process. */
export interface OpenDatastore {
  readonly entry: DatastoreEntry;
  readonly files: FileSystem;
  capacity(): Promise<Capacity>;
  /** Who has which file open, with a lock. */
  locks(): Promise<HeldLock[]>;
  /** Makes it larger by a device, while it is in use. Not where the host's file system decides. */
  extend?(device: string): Promise<void>;
  /** Takes in what its devices have grown by. @returns bytes that were won */
  grow?(): Promise<number>;
  /** Checks the volume that it stands on, while it is in use. Not where the host's file system is below. */
  checkVolume?(): Promise<VolumeCheck>;
  close(): Promise<void>;
}

interface Marker {
  readonly uuid: string;
}

const MARKER_LIMIT = 64 * 1024;

/** Opens a directory datastore. @throws VimgError `NOT_FOUND` when its folder is not there */
export async function openDirectoryDatastore(entry: DatastoreEntry): Promise<OpenDatastore> {
  const folder = firstDevice(entry);
  const marker = await readMarker(folder, entry.name);
  if (marker?.uuid !== entry.uuid) {
    const what = marker ? 'is another datastore' : 'carries no datastore';
    throw new VimgError('NOT_FOUND', `The folder of datastore '${entry.name}' ${what}`, {
      op: 'open datastore',
      path: folder,
      hint: 'is the share mounted? `vimg datastore ls` shows what this host knows',
    });
  }
  return {
    entry,
    files: await DirectoryFiles.open(entry.name, folder),
    capacity: () => folderCapacity(folder),
    locks: () => folderLocks(`${entry.name}:`),
    close: () => Promise.resolve(),
  };
}

function firstDevice(entry: DatastoreEntry): string {
  return entry.devices[0]?.path ?? '';
}

async function folderCapacity(folder: string): Promise<Capacity> {
  try {
    const { blocks, bfree, bavail, bsize } = await statfs(folder);
    // blocks that only root may take are neither free nor used by disks: capacity is what there is without them
    return {
      capacity: (blocks - bfree + bavail) * bsize,
      used: (blocks - bfree) * bsize,
      free: bavail * bsize,
    };
  } catch (error) {
    throw fromSystemError(error, { op: 'ask for free space', path: folder });
  }
}

/** Locks on files of a folder: those of processes on this host; another host's are not to be seen. */
async function folderLocks(root: string): Promise<HeldLock[]> {
  const locks = listFileLocks();
  const held: HeldLock[] = [];
  for await (const { path, status } of filesBelow(root)) {
    for (const { bytes, startedMs, ...holder } of locks.get(status.identity) ?? []) {
      const mode = lockModeOf(bytes);
      if (mode === 'none' || holder.pid === process.pid) continue;
      held.push({
        path,
        mode: mode === 'write' ? 'EX' : 'PR',
        host: hostname(),
        sinceMs: startedMs,
        ...holder,
      });
    }
  }
  return held;
}

/** The entry of a name. @throws VimgError `NOT_FOUND` naming those that there are */
export async function findDatastore(name: string, environment: Environment): Promise<DatastoreEntry> {
  const { datastores } = await readConfiguration(environment);
  const found = datastores.find((entry) => entry.name === name);
  if (found) return found;
  const names = datastores.map((entry) => entry.name).join(', ');
  throw new VimgError('NOT_FOUND', `There is no datastore '${name}'`, {
    hint: names === '' ? 'make one: vimg datastore create NAME FOLDER' : `datastores of this host: ${names}`,
  });
}

/**
 * Makes a folder a datastore, and registers it.
 *
 * @throws VimgError `EXISTS` when the name is taken or the folder is a datastore already; `NOT_FOUND`; `USAGE`
 */
export async function createDirectoryDatastore(
  name: string,
  folder: string,
  environment: Environment,
): Promise<DatastoreEntry> {
  checkName(name, 'datastore');
  const path = await realPath(folder);
  return register(environment, name, async () => {
    const uuid = newUuid();
    if (await readMarker(path, name)) {
      throw new VimgError('EXISTS', 'The folder is a datastore already', {
        op: 'create datastore',
        path: folder,
        hint: `register it here: vimg datastore add ${name} ${folder}`,
      });
    }
    await writeMarker(path, { uuid });
    return { name, kind: 'directory', uuid, devices: [{ path }] };
  });
}

/** Registers a datastore that another host made, or this one forgot. @throws VimgError `NOT_FOUND`, `EXISTS` */
export async function addDirectoryDatastore(
  name: string,
  folder: string,
  environment: Environment,
): Promise<DatastoreEntry> {
  checkName(name, 'datastore');
  const path = await realPath(folder);
  const marker = await readMarker(path, name);
  if (!marker) {
    throw new VimgError('NOT_FOUND', 'The folder carries no datastore', {
      op: 'add datastore',
      path: folder,
      hint: `make it one: vimg datastore create ${name} ${folder}`,
    });
  }
  const entry: DatastoreEntry = { name, kind: 'directory', uuid: marker.uuid, devices: [{ path }] };
  return register(environment, name, () => Promise.resolve(entry));
}

/**
 * Adds a datastore to those that this host knows, under the lock of the configuration.
 *
 * @param make makes it, once the name is known to be free
 * @throws VimgError `EXISTS` when the name is taken, or the datastore is known under another one
 */
export async function register(
  environment: Environment,
  name: string,
  make: () => Promise<DatastoreEntry>,
): Promise<DatastoreEntry> {
  let made: DatastoreEntry | undefined;
  await changeConfiguration(environment, async (now) => {
    if (now.datastores.some((each) => each.name === name)) {
      throw new VimgError('EXISTS', `There is datastore '${name}' already`);
    }
    const entry = await make();
    const same = now.datastores.find((each) => each.uuid === entry.uuid);
    if (same) throw new VimgError('EXISTS', `It is known here as datastore '${same.name}' already`);
    made = entry;
    return { ...now, datastores: [...now.datastores, entry] };
  });
  return made as DatastoreEntry;
}

/** This host forgets a datastore. Nothing on its storage changes. @throws VimgError `NOT_FOUND` */
export async function forgetDatastore(name: string, environment: Environment): Promise<void> {
  await findDatastore(name, environment);
  await changeConfiguration(environment, (now) => ({
    ...now,
    datastores: now.datastores.filter((entry) => entry.name !== name),
  }));
}

async function writeMarker(folder: string, { uuid }: Marker): Promise<void> {
  const path = join(folder, MARKER);
  try {
    await replaceFile(path, `${JSON.stringify({ format: 'vimg-datastore', version: 1, uuid })}\n`);
  } catch (error) {
    throw fromSystemError(error, { op: 'create datastore', path });
  }
}

/** Which datastore a folder is; undefined when it is none. */
async function readMarker(folder: string, name: string): Promise<Marker | undefined> {
  const status = await fileStatus(folder);
  if (status?.kind !== 'folder') {
    throw new VimgError('NOT_FOUND', `The folder of datastore '${name}' is not there`, {
      op: 'open datastore',
      path: folder,
      hint: 'is the share mounted?',
    });
  }
  if (!(await listFolder(folder)).includes(MARKER)) return undefined;
  const path = join(folder, MARKER);
  const file = await openFile(path, { readOnly: true });
  try {
    const bytes = Buffer.alloc(Math.min(file.size, MARKER_LIMIT));
    await file.pread(bytes, 0);
    const { uuid } = JSON.parse(bytes.toString()) as Partial<Marker>;
    if (typeof uuid === 'string') return { uuid };
  } catch (error) {
    if (isVimgError(error)) throw error;
  } finally {
    await file.close();
  }
  throw new VimgError('CORRUPT', 'The file that says which datastore this is cannot be read', { path });
}
