/**
 * One volume, used by several processes of a host at the same time.
 *
 * The process that holds the volume's lock has it attached and serves the others at a socket; the rest are its clients.
 * Who needs the volume tries for the lock first, and connects when another one has it; two that race are told apart by
 * the lock. When the process that had it ends, each client tries the same again, and one of them becomes the next:
 * open files are opened again there, with their locks.
 *
 * What a client may believe then: after a farewell, everything that was answered is durable, so its work just goes on.
 * After a kill, only what was flushed is. A file with answered writes that were not flushed fails from then on, as
 * after a failed flush; whatever changes no content is asked again. A change of names that was not answered may have
 * happened: that is told, not guessed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isVimgError, VimgError } from '../base/errors.ts';
import type { FileDeviceOptions } from '../device/file-device.ts';
import { FileDevice } from '../device/file-device.ts';
import type { DiskFile, FileStatus, FileSystem } from '../device/file-system.ts';
import { LockTable } from './lock-table.ts';
import { LockingFiles, Turns } from './locking-files.ts';
import { ownLockOwner, PlaceClient, PlaceGone } from './place-client.ts';
import { PlaceServer } from './place-server.ts';
import { RemoteFiles } from './remote-files.ts';
import { VolumeFile } from './volume-file.ts';

/** A volume that this process has attached. */
export interface AttachedVolume {
  readonly files: FileSystem;
  /** Anything else that is asked of it, by others too. */
  ask(question: string, argument?: string): Promise<unknown>;
  /** Flushes, and lets go of the devices. */
  detach(): Promise<void>;
}

export interface VolumePlaceOptions {
  /** A file whose lock decides who attaches the volume; it is made when it is not there. */
  readonly lockPath: string;
  readonly socketPath: string;
  /** @throws VimgError `LOCKED` when someone has it who is not to be reached at the socket */
  attach(locks: LockTable): Promise<AttachedVolume>;
}

/** How the volume is reached now. */
export interface PlaceAccess {
  readonly files: FileSystem;
  /** False once the process that had the volume has ended. */
  alive(): boolean;
  ask(question: string, argument?: string): Promise<unknown>;
  close(): Promise<void>;
}

/** How long a process waits for another one to let go, or to begin to listen. */
const WAIT_MS = 15_000;
const PAUSE_MS = 20;

export class VolumePlace implements FileSystem {
  readonly #options: VolumePlaceOptions;
  #access: Promise<PlaceAccess> | undefined;
  #closed = false;

  constructor(options: VolumePlaceOptions) {
    this.#options = options;
  }

  /** The way to the volume that works now. @throws VimgError `LOCKED` naming who has it and cannot be reached */
  async access(): Promise<PlaceAccess> {
    for (;;) {
      if (this.#closed) throw new VimgError('IO', 'The volume is closed');
      const opening = (this.#access ??= this.#reach());
      try {
        const access = await opening;
        if (access.alive()) return access;
      } catch (error) {
        if (this.#access === opening) this.#access = undefined;
        throw error;
      }
      if (this.#access === opening) this.#access = undefined;
    }
  }

  /** Ends this process's use of the volume; one that had it attached says farewell to its clients. */
  async close(): Promise<void> {
    this.#closed = true;
    const access = await this.#access?.catch(() => undefined);
    await access?.close();
  }

  async ask(question: string, argument?: string): Promise<unknown> {
    return this.#again((access) => access.ask(question, argument));
  }

  async #reach(): Promise<PlaceAccess> {
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      try {
        const lock = await openLock(this.#options.lockPath);
        return await this.#become(lock); // a refusal here comes from someone who is not to be reached
      } catch (error) {
        if (!isVimgError(error, 'LOCKED') || error.path !== this.#options.lockPath) throw error;
        const client = await PlaceClient.connect(this.#options.socketPath).catch(refused);
        if (client) return clientAccess(client);
        if (performance.now() > deadline) throw error;
      }
      await sleep(PAUSE_MS * (0.5 + Math.random()));
    }
  }

  /** Attaches the volume here, under the lock that decides who does. */
  async #become(lock: FileDevice): Promise<PlaceAccess> {
    const { socketPath, attach } = this.#options;
    try {
      const table = new LockTable();
      const volume = await attach(table);
      try {
        const turns = new Turns();
        const server = await PlaceServer.listen(socketPath, {
          filesFor: (owner) => new LockingFiles(volume.files, table, turns, owner),
          ask: (question, argument) => volume.ask(question, argument),
        });
        return {
          files: new LockingFiles(volume.files, table, turns, ownLockOwner()),
          alive: () => true,
          ask: (question, argument) => volume.ask(question, argument),
          close: async () => {
            try {
              await server.close();
              await volume.detach();
            } finally {
              await lock.close();
            }
          },
        };
      } catch (error) {
        await volume.detach();
        throw error;
      }
    } catch (error) {
      await lock.close();
      throw error;
    }
  }

  /** Does what may be done twice without harm, again where the volume is reached next. */
  async #again<T>(work: (access: PlaceAccess) => Promise<T>): Promise<T> {
    for (;;) {
      const access = await this.access();
      try {
        return await work(access);
      } catch (error) {
        if (!(error instanceof PlaceGone)) throw error;
      }
    }
  }

  /** Does what must not be done twice: after a kill it is not known whether it was done. */
  async #once<T>(op: string, path: string, work: (files: FileSystem) => Promise<T>): Promise<T> {
    for (;;) {
      const access = await this.access();
      try {
        return await work(access.files);
      } catch (error) {
        if (!(error instanceof PlaceGone)) throw error;
        if (error.orderly) continue;
        throw new VimgError('IO', 'The process that had the volume was killed before it answered', {
          op,
          path,
          hint: 'look whether it was done, and do it again if not',
          cause: error,
        });
      }
    }
  }

  async open(path: string, options: FileDeviceOptions): Promise<DiskFile> {
    for (;;) {
      const access = await this.access();
      try {
        const file = await access.files.open(path, options);
        const identity = (await access.files.status(path))?.identity;
        const { create: _made, ...others } = options;
        return new VolumeFile(file, options.lock ?? 'none', (name, lock) =>
          this.#reopen(name, identity, { ...others, lock }),
        );
      } catch (error) {
        if (!(error instanceof PlaceGone)) throw error;
        // a file that was to be made may have been made, and the answer was lost
        if (options.create === 'exclusive' && !error.orderly) throw error;
      }
    }
  }

  /** The same file, where the volume is reached now. */
  #reopen(path: string, identity: string | undefined, options: FileDeviceOptions): Promise<DiskFile> {
    return this.#again(async ({ files }) => {
      const file = await files.open(path, options);
      if ((await files.status(path))?.identity === identity) return file;
      await file.close();
      throw new VimgError('IO', 'The file was replaced while the volume was attached anew', { path });
    });
  }

  status(path: string): Promise<FileStatus | undefined> {
    return this.#again((access) => access.files.status(path));
  }

  list(folder: string): Promise<string[]> {
    return this.#again((access) => access.files.list(folder));
  }

  realPath(path: string): Promise<string> {
    return this.#again((access) => access.files.realPath(path));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#once('rename', from, (files) => files.rename(from, to));
  }

  link(path: string, second: string): Promise<void> {
    return this.#once('link', path, (files) => files.link(path, second));
  }

  copy(path: string, target: string): Promise<boolean> {
    return this.#once('copy', path, async (files) => (await files.copy?.(path, target)) ?? false);
  }

  remove(path: string): Promise<void> {
    return this.#once('remove', path, (files) => files.remove(path));
  }

  makeFolder(path: string): Promise<void> {
    return this.#once('make the folder', path, (files) => files.makeFolder(path));
  }

  removeFolder(path: string): Promise<void> {
    return this.#once('remove', path, (files) => files.removeFolder(path));
  }

  syncFolder(folder: string): Promise<void> {
    return this.#again((access) => access.files.syncFolder(folder));
  }

  replace(path: string, content: Uint8Array | string): Promise<void> {
    return this.#again((access) => access.files.replace(path, content));
  }

  keepOwner(_path: string, _replaced: FileStatus): Promise<void> {
    return Promise.resolve();
  }
}

function clientAccess(client: PlaceClient): PlaceAccess {
  return {
    files: new RemoteFiles(client),
    alive: () => client.alive,
    ask: async (question, argument) =>
      (await client.request({ method: 'ask', question, argument })).head['result'],
    close: () => {
      client.close();
      return Promise.resolve();
    },
  };
}

/** Nobody listens there (yet, or any more); everything else is told. */
function refused(error: unknown): undefined {
  if (isVimgError(error, 'NOT_FOUND') || isVimgError(error, 'IO')) return undefined;
  throw error;
}

/** @throws VimgError `LOCKED` when a process has the volume attached */
export async function openLock(path: string): Promise<FileDevice> {
  try {
    return await FileDevice.open(path, { create: 'exclusive', lock: 'write' });
  } catch (error) {
    if (!isVimgError(error, 'EXISTS')) throw error;
    return FileDevice.open(path, { lock: 'write' });
  }
}
