/**
 * A volume's files with locks: the volume itself knows none, and everyone on this host uses it through this.
 *
 * Changes of names and opens come one after the other, so that a lock is taken on the file that was opened.
 */
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { DiskFile, FileStatus, FileSystem } from '../device/file-system.ts';
import { ForwardingFile } from '../device/forwarding-file.ts';
import type { LockMode } from '../host/file-lock.ts';
import type { HeldFileLock, LockOwner, LockTable } from './lock-table.ts';
import type { PlaceFile, PlaceFiles } from './place-files.ts';

class LockingFile extends ForwardingFile implements PlaceFile {
  readonly identity: string;
  readonly #lock: HeldFileLock;

  constructor(file: DiskFile, identity: string, lock: HeldFileLock) {
    super(file);
    this.identity = identity;
    this.#lock = lock;
  }

  override get name(): string {
    return super.name;
  }

  override set name(name: string) {
    super.name = name;
    this.#lock.rename(name);
  }

  override get locked(): boolean {
    return this.#lock.mode !== 'none';
  }

  override changeLock(mode: LockMode): Promise<void> {
    return this.#lock.change(mode);
  }

  override async close(): Promise<void> {
    try {
      await this.inner.close();
    } finally {
      await this.#lock.release();
    }
  }
}

export class LockingFiles implements PlaceFiles {
  readonly #files: FileSystem;
  readonly #table: LockTable;
  readonly #owner: LockOwner;
  readonly #turns: Turns;

  /** @param turns shared by all who use the same volume */
  constructor(files: FileSystem, table: LockTable, turns: Turns, owner: LockOwner) {
    this.#files = files;
    this.#table = table;
    this.#turns = turns;
    this.#owner = owner;
  }

  open(path: string, options: FileDeviceOptions): Promise<PlaceFile> {
    const { lock = 'none', create, ...rest } = options;
    return this.#turns.take(async () => {
      // what is to be emptied is locked first
      const opening = create === 'truncate' && (await this.#files.status(path)) ? undefined : create;
      const file = await this.#files.open(path, {
        ...rest,
        ...(opening === undefined ? {} : { create: opening }),
      });
      try {
        const identity = (await this.#files.status(path))?.identity ?? path;
        const held = await this.#table.take(identity, path, lock, this.#owner);
        if (create === 'truncate') await file.resize(0);
        return new LockingFile(file, identity, held);
      } catch (error) {
        await file.close();
        throw error;
      }
    });
  }

  async refuseLock(path: string, mode: LockMode): Promise<void> {
    this.#table.refuse((await this.#files.status(path))?.identity ?? path, path, mode);
  }

  async lockHolders(path: string): Promise<readonly number[]> {
    return this.#table.holders((await this.#files.status(path))?.identity ?? path);
  }

  status(path: string): Promise<FileStatus | undefined> {
    return this.#files.status(path);
  }

  list(folder: string): Promise<string[]> {
    return this.#files.list(folder);
  }

  realPath(path: string): Promise<string> {
    return this.#files.realPath(path);
  }

  rename(from: string, to: string): Promise<void> {
    return this.#turns.take(() => this.#files.rename(from, to));
  }

  link(path: string, second: string): Promise<void> {
    return this.#turns.take(() => this.#files.link(path, second));
  }

  copy(path: string, target: string): Promise<boolean> {
    return this.#turns.take(async () => (await this.#files.copy?.(path, target)) ?? false);
  }

  remove(path: string): Promise<void> {
    return this.#turns.take(() => this.#files.remove(path));
  }

  makeFolder(path: string): Promise<void> {
    return this.#turns.take(() => this.#files.makeFolder(path));
  }

  removeFolder(path: string): Promise<void> {
    return this.#turns.take(() => this.#files.removeFolder(path));
  }

  syncFolder(folder: string): Promise<void> {
    return this.#files.syncFolder(folder);
  }

  replace(path: string, content: Uint8Array | string): Promise<void> {
    return this.#turns.take(() => this.#files.replace(path, content));
  }

  keepOwner(path: string, replaced: FileStatus): Promise<void> {
    return this.#files.keepOwner(path, replaced);
  }
}

/** One after the other. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
