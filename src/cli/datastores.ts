/** The datastores that this command line may name, and what belongs to a whole run of the tool. */
import { existsSync } from 'node:fs';
import { VimgError } from '../base/errors.ts';
import { folderOf, resolvePath } from '../device/file-path.ts';
import { placeOf } from '../device/mounts.ts';
import { configurationFile, type Environment } from '../storage/configuration.ts';
import { findDatastore, type OpenDatastore } from '../storage/datastore.ts';
import type { MountedDatastores } from '../storage/mounted-datastores.ts';

let mounted: MountedDatastores | undefined;
let environment: Environment = process.env;

/** Makes `ds1:…` mean files, for every datastore that this host knows. @returns ends that */
export async function mountDatastores(now: Environment): Promise<() => Promise<void>> {
  environment = now;
  if (!existsSync(configurationFile(environment))) return () => Promise.resolve();
  const { MountedDatastores } = await import('../storage/mounted-datastores.ts');
  const { deviceAccess } = await import('./device-access.ts');
  mounted = await MountedDatastores.mount(environment, deviceAccess);
  return async () => {
    await mounted?.close();
    mounted = undefined;
  };
}

/** The datastore of this name, open until the tool ends. @throws VimgError `NOT_FOUND` */
export async function datastore(name: string): Promise<OpenDatastore> {
  const open = mounted?.open(name) ?? findDatastore(name, environment).then(neverFound);
  return open;
}

function neverFound(): never {
  throw new VimgError('NOT_FOUND', 'The configuration was made while this command ran: try again');
}

/** A path in a datastore: `ds1:vm1/root.vvd`, also `ds1:` for its root. */
const PATH = /^([A-Za-z][A-Za-z0-9_-]+):/;

/**
 * The path in a datastore that a name means; undefined when it names none.
 *
 * @throws VimgError `NOT_FOUND` for a datastore that this host does not know
 */
export async function datastorePath(name: string): Promise<string | undefined> {
  const store = PATH.exec(name)?.[1];
  if (store === undefined) return undefined;
  if (placeOf(name) === undefined) {
    try {
      await findDatastore(store, environment);
    } catch (error) {
      throw asFileHint(error, name);
    }
  }
  return resolvePath('.', name);
}

function asFileHint(error: unknown, name: string): unknown {
  if (!(error instanceof VimgError) || error.code !== 'NOT_FOUND') return error;
  const hint = `${error.hint ?? ''}; for a file of that name write ./${name}`;
  return new VimgError(error.code, error.message, { hint, cause: error });
}

/** Splits `ds1:a/b` for messages about the datastore. @throws VimgError `USAGE` for what is no such path */
export async function requireDatastorePath(name: string | undefined): Promise<string> {
  const path = name === undefined ? undefined : await datastorePath(name);
  if (path !== undefined) return path;
  throw new VimgError(
    'USAGE',
    name === undefined ? 'Expecting a path in a datastore' : `'${name}' is no path in a datastore`,
    {
      hint: 'it is written NAME:PATH, ds1:vm1/root.vvd; `vimg datastore ls` shows the names',
    },
  );
}

/** Whether a path is the root of its place. */
export function isRoot(path: string): boolean {
  return folderOf(path) === path;
}
