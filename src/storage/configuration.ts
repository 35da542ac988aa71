/**
 * What this host knows of storage: its resources, the devices found in them, its datastores.
 *
 * One JSON file, `storage.json`, in `$VIMG_CONFIG`, else `$XDG_CONFIG_HOME/vimg`, else `~/.config/vimg`. It is checked
 * when it is read, replaced atomically when it is changed, and changed under a lock: of two writers at once the
 * second sees what the first wrote.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import { FileDevice } from '../device/file-device.ts';
import { replaceFile } from '../host/atomic-file.ts';
import { errnoName } from '../host/libc.ts';
import type { Configuration } from './configuration-schema.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const FILE = 'storage.json';
const LOCK_FILE = 'storage.lock';
/** How long a change waits for another one; a change takes milliseconds. */
const LOCK_WAIT_MS = 10_000;
const LOCK_PAUSE_MS = 20;

/** The folder of the configuration. */
function configurationFolder(environment: Environment): string {
  const { VIMG_CONFIG, XDG_CONFIG_HOME } = environment;
  if (VIMG_CONFIG) return VIMG_CONFIG;
  // The XDG Base Directory Specification: an empty or relative value counts as none.
  const base = XDG_CONFIG_HOME?.startsWith('/') ? XDG_CONFIG_HOME : join(homedir(), '.config');
  return join(base, 'vimg');
}

/** Where the configuration is, or would be. */
export function configurationFile(environment: Environment): string {
  return join(configurationFolder(environment), FILE);
}

/**
 * The configuration as it is now; an empty one where there is no file.
 *
 * @throws VimgError `CORRUPT` for a file that is not what it should be, `UNSUPPORTED` for one of a later version
 */
export async function readConfiguration(environment: Environment): Promise<Configuration> {
  const path = configurationFile(environment);
  let text: string | undefined;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') throw fromSystemError(error, { op: 'read the configuration', path });
  }
  if (text === undefined) return { format: 'vimg-storage', version: 1, resources: [], datastores: [] };
  // loaded when there is something to check: most command lines name no datastore
  return (await import('./configuration-schema.ts')).parseConfiguration(text, path);
}

/**
 * Changes the configuration, as one step: `change` is given what is there now, and returns what shall be.
 *
 * @throws what `change` throws, with nothing changed; VimgError `LOCKED` when another process does not finish its change
 */
export async function changeConfiguration(
  environment: Environment,
  change: (now: Configuration) => Configuration | Promise<Configuration>,
): Promise<Configuration> {
  const folder = configurationFolder(environment);
  const path = configurationFile(environment);
  try {
    await mkdir(folder, { recursive: true, mode: 0o755 });
    const lock = await takeLock(join(folder, LOCK_FILE));
    try {
      const next = await change(await readConfiguration(environment));
      const { checkConfiguration } = await import('./configuration-schema.ts');
      await replaceFile(path, `${JSON.stringify(checkConfiguration(next, path), undefined, 2)}\n`);
      return next;
    } finally {
      await lock.close();
    }
  } catch (error) {
    throw fromSystemError(error, { op: 'change the configuration', path });
  }
}

async function takeLock(path: string): Promise<FileDevice> {
  const deadline = performance.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      return await openLock(path);
    } catch (error) {
      if (!isVimgError(error, 'LOCKED') || performance.now() > deadline) throw error;
    }
    await sleep(LOCK_PAUSE_MS * (0.5 + Math.random()));
  }
}

async function openLock(path: string): Promise<FileDevice> {
  try {
    return await FileDevice.open(path, { create: 'exclusive', lock: 'write' });
  } catch (error) {
    if (!isVimgError(error, 'EXISTS')) throw error;
    return FileDevice.open(path, { lock: 'write' });
  }
}

/** @throws VimgError `USAGE` for a name that cannot be one of a datastore or a resource */
export function checkName(name: string, what: string): void {
  if (/^[A-Za-z][A-Za-z0-9_-]{1,62}$/.test(name) && !RESERVED.includes(name.toLowerCase())) return;
  throw new VimgError('USAGE', `'${name}' cannot be the name of a ${what}`, {
    hint: 'a name has 2 to 63 letters, digits, - and _, begins with a letter, and is no word like nbd or file',
  });
}

/** What stands before a colon in other names of disks. */
const RESERVED: readonly string[] = [
  'file',
  'nbd',
  'nbds',
  'json',
  'http',
  'https',
  'ftp',
  'ssh',
  'iscsi',
  'host',
];
