/** `datastore create`, `add` and `extend`: of a folder, or of devices. */
import { VimgError } from '../base/errors.ts';
import { formatSize, parseSize } from '../base/size.ts';
import { fileExists, fileStatus, realPath } from '../device/files.ts';
import type { DatastoreEntry } from '../storage/configuration-schema.ts';
import { addDirectoryDatastore, createDirectoryDatastore } from '../storage/datastore.ts';
import {
  addVolumeDatastore,
  createVolumeDatastore,
  extendVolumeDatastore,
} from '../storage/volume-datastore.ts';
import { makeLunFile } from '../storage/volume-devices.ts';
import { usage } from './command-line.ts';
import { datastore } from './datastores.ts';
import { deviceAccess } from './device-access.ts';
import { filePath } from './disk-reference.ts';
import type { Context } from './verb.ts';

export interface MakeOptions {
  readonly force?: boolean;
  readonly size?: string;
}

/** Makes a datastore of what the operands name, or makes one known that is there. */
export async function makeDatastore(
  context: Context,
  action: 'create' | 'add',
  operands: readonly string[],
  options: MakeOptions,
): Promise<DatastoreEntry> {
  const [name, ...places] = operands;
  const [first, second] = places;
  if (name === undefined || first === undefined) throw usage('Expecting a name, and a folder or devices');
  if (action === 'add' && (options.force || options.size !== undefined)) {
    throw usage('--force and --size are for `create` and `extend`');
  }
  const { environment } = context;
  const isFolder = (await fileStatus(await filePath(first)))?.kind === 'folder';
  if (isFolder && second === undefined) {
    if (options.size !== undefined) throw usage('A folder has no --size');
    return (action === 'create' ? createDirectoryDatastore : addDirectoryDatastore)(name, first, environment);
  }
  if (isFolder) throw usage(`Unexpected argument: ${second}`, 'a directory datastore has one folder');
  const paths = await devicePaths(places, options.size);
  if (action === 'add') return addVolumeDatastore(name, paths, deviceAccess, environment);
  return createVolumeDatastore(name, paths, deviceAccess, environment, options.force ?? false);
}

/** Whole paths of devices. A file that is not there is made, when its size is given. */
async function devicePaths(names: readonly string[], size: string | undefined): Promise<string[]> {
  const paths: string[] = [];
  for (const name of names) {
    const path = await filePath(name);
    if (size !== undefined) await makeLunFile(path, parseSize(size));
    else if (!(await fileExists(path))) {
      throw new VimgError('NOT_FOUND', 'No such file or directory', {
        op: 'open',
        path: name,
        hint: 'a folder or a device has to be there; with --size SIZE a file is made that stands for a device',
      });
    }
    paths.push(await realPath(path));
  }
  return paths;
}

/** Makes a datastore larger by a device, or by what its devices have grown by. @returns what is told of that */
export async function extendDatastore(
  context: Context,
  operands: readonly string[],
  options: MakeOptions,
): Promise<string> {
  const [name, device, extra] = operands;
  if (name === undefined) throw usage('Expecting the name of a datastore, and a device');
  if (extra !== undefined) throw usage(`Unexpected argument: ${extra}`);
  const open = await datastore(name);
  if (open.grow === undefined) {
    throw new VimgError('UNSUPPORTED', `'${name}' is in a folder: it is as large as the file system there`);
  }
  if (device === undefined) {
    if (options.size !== undefined) throw usage('--size is of a device that is added');
    const won = await open.grow();
    return won === 0 ? `${name}: its devices have not grown` : `${name}: ${formatSize(won)} more`;
  }
  const [path = ''] = await devicePaths([device], options.size);
  await extendVolumeDatastore(name, path, deviceAccess, context.environment, options.force ?? false);
  return `${name}: extended by ${path}`;
}
