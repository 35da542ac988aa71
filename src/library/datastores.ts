/** The library: the datastores of this host. */
import { MountedDatastores } from '../storage/mounted-datastores.ts';
import { vimsDriver } from '../storage/vims-driver.ts';

/** Datastores that paths lead to, until it is closed. */
export interface Datastores extends AsyncDisposable {
  close(): Promise<void>;
}

/**
 * Lets paths lead into the datastores that this host knows: from now on every function takes `ds1:vm1/root.vvd`. Each
 * datastore is opened when it is first used.
 *
 * @param options `environment`: where `VIMG_CONFIG`, `XDG_CONFIG_HOME` are looked up; default that of the process
 * @throws VimgError `EXISTS` when a datastore's name is taken by another place; a path in a datastore that cannot be
 *   opened fails with `NOT_FOUND`
 * @example
 * const datastores = await mountDatastores(); // what `vimg datastore ls` shows
 * const links = await chainOf('clone.vvd'); // may stand on 'ds1:golden.vvd'
 * await datastores.close();
 */
export async function mountDatastores(
  options: { readonly environment?: Readonly<Record<string, string | undefined>> } = {},
): Promise<Datastores> {
  const mounted = await MountedDatastores.mount(options.environment ?? process.env, { driver: vimsDriver });
  return { close: () => mounted.close(), [Symbol.asyncDispose]: () => mounted.close() };
}
