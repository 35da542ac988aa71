/** Opening a datastore of whatever kind. */
import { VimgError } from '../base/errors.ts';
import type { Environment } from './configuration.ts';
import type { DatastoreEntry } from './configuration-schema.ts';
import { type OpenDatastore, openDirectoryDatastore } from './datastore.ts';
import type { DeviceAccess } from './volume-devices.ts';

/**
 * Opens a datastore that this host knows.
 *
 * @param access how volumes and their devices are used
 * @param environment where a volume's devices are looked up when it is attached anew
 * @throws VimgError `NOT_FOUND` when its storage is not there; `UNSUPPORTED` for a volume without a way to use it
 */
export async function openDatastore(
  entry: DatastoreEntry,
  access: DeviceAccess | undefined,
  environment?: Environment,
): Promise<OpenDatastore> {
  if (entry.kind === 'directory') return openDirectoryDatastore(entry);
  if (access) return (await import('./volume-datastore.ts')).openVolumeDatastore(entry, access, environment);
  throw new VimgError('UNSUPPORTED', `The datastore '${entry.name}' is a volume, which is not known here`);
}
