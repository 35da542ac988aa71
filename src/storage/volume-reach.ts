/**
 * How a process reaches a volume that several processes of a host use: it attaches the volume, or connects to the one that
 * has it attached. The lock on a file decides which. Who needs the volume tries for the lock first, and connects when
 * another one has it; two that race are told apart by the lock. When the process that had it ends, each client tries the
 * same again, and one of them becomes the next.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isVimgError, VimgError } from '../base/errors.ts';
import { FileDevice } from '../device/file-device.ts';
import type { FileSystem } from '../device/file-system.ts';
import { LockTable } from './lock-table.ts';
import { LockingFiles, Turns } from './locking-files.ts';
import { ownLockOwner, PlaceClient, type PlaceGone } from './place-client.ts';
import type { PlaceFiles } from './place-files.ts';
import { PlaceServer } from './place-server.ts';
import { RemoteFiles } from './remote-files.ts';

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
  readonly files: PlaceFiles;
  /** Another process has the volume attached. */
  readonly remote: boolean;
  /** False once the process that had the volume has ended. */
  alive(): boolean;
  ask(question: string, argument?: string): Promise<unknown>;
  close(): Promise<void>;
}

/** How long a process waits for another one to let go, or to begin to listen. */
const WAIT_MS = 15_000;
const PAUSE_MS = 20;

export class VolumeReach {
  readonly #options: VolumePlaceOptions;
  readonly #onGone: (gone: PlaceGone) => void;
  #access: Promise<PlaceAccess> | undefined;
  #closed = false;

  /** @param onGone another process had the volume attached, and has ended */
  constructor(options: VolumePlaceOptions, onGone: (gone: PlaceGone) => void) {
    this.#options = options;
    this.#onGone = onGone;
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

  async #reach(): Promise<PlaceAccess> {
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      try {
        const lock = await openLock(this.#options.lockPath);
        return await this.#become(lock); // a refusal here comes from someone who is not to be reached
      } catch (error) {
        if (!isVimgError(error, 'LOCKED') || error.path !== this.#options.lockPath) throw error;
        const client = await PlaceClient.connect(this.#options.socketPath).catch(refused);
        if (client) {
          client.onGone(this.#onGone);
          return clientAccess(client);
        }
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
          remote: false,
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
}

function clientAccess(client: PlaceClient): PlaceAccess {
  return {
    files: new RemoteFiles(client),
    remote: true,
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
