/** The datastores of this host as places that paths lead to: `ds1:vm1/root.vvd`. */
import { readFile } from 'node:fs/promises';
import { mountFiles } from '../device/mounts.ts';
import { configurationFile, type Environment } from './configuration.ts';
import { findDatastore, type OpenDatastore } from './datastore.ts';
import { LazyFiles } from './lazy-files.ts';
import { openDatastore } from './open-datastore.ts';
import type { DeviceAccess } from './volume-devices.ts';

export class MountedDatastores {
  readonly #environment: Environment;
  readonly #opened = new Map<string, Promise<OpenDatastore>>();
  readonly #unmount: (() => void)[] = [];

  readonly #access: DeviceAccess | undefined;

  private constructor(environment: Environment, access: DeviceAccess | undefined) {
    this.#environment = environment;
    this.#access = access;
  }

  /** Mounts every datastore that the configuration names; each is opened when it is first used. */
  static async mount(environment: Environment, access?: DeviceAccess): Promise<MountedDatastores> {
    const mounted = new MountedDatastores(environment, access);
    for (const name of await registeredNames(environment)) {
      const files = new LazyFiles(async () => (await mounted.open(name)).files);
      mounted.#unmount.push(mountFiles(name, files));
    }
    return mounted;
  }

  /** The datastore of this name, opened once. @throws VimgError `NOT_FOUND`, and what opening it throws */
  open(name: string): Promise<OpenDatastore> {
    const known = this.#opened.get(name);
    if (known) return known;
    const opening = findDatastore(name, this.#environment).then((entry) =>
      openDatastore(entry, this.#access, this.#environment),
    );
    this.#opened.set(name, opening);
    return opening;
  }

  /** Ends all that: the names mean nothing any more, and what was opened is closed. */
  async close(): Promise<void> {
    for (const end of this.#unmount.splice(0)) end();
    const opened = await Promise.allSettled(this.#opened.values());
    this.#opened.clear();
    for (const each of opened) if (each.status === 'fulfilled') await each.value.close();
  }
}

/** Names only, unchecked and cheap: a command line that uses no datastore must not pay for them, nor fail for them. */
async function registeredNames(environment: Environment): Promise<string[]> {
  try {
    const { datastores } = JSON.parse(await readFile(configurationFile(environment), 'utf8')) as {
      datastores: { name: string }[];
    };
    return datastores.map(({ name }) => name).filter((name) => /^[A-Za-z][A-Za-z0-9_-]+$/.test(name));
  } catch {
    return []; // what is wrong is told when a datastore is named
  }
}
