/**
 * The files of a volume that several processes of a host use at the same time. One of them has it attached, the others go
 * through that one (volume-reach.ts); when it ends, open files are opened again where the volume is next, with their locks.
 *
 * What a client may believe then: after a farewell, everything that was answered is durable. After a kill, only what was
 * flushed is; a file makes its other changes again (volume-file.ts). Either way its work just goes on. A change of names
 * that was not answered may have happened: where that can be seen it is, else it is told.
 */
import { VimgError } from '../base/errors.ts';
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { DiskFile, FileStatus, FileSystem } from '../device/file-system.ts';
import { FileClaim } from './file-claim.ts';
import { PlaceGone } from './place-client.ts';
import type { PlaceFile } from './place-files.ts';
import { type OpenedFile, VolumeFile } from './volume-file.ts';
import { type PlaceAccess, type VolumePlaceOptions, VolumeReach } from './volume-reach.ts';

/** What can be seen of a change of names after it was not answered; undefined when it cannot be told. */
type WasDone = () => Promise<boolean | undefined>;

export class VolumePlace implements FileSystem {
  readonly #lockPath: string;
  readonly #reach: VolumeReach;
  readonly #open = new Set<VolumeFile>();

  constructor(options: VolumePlaceOptions) {
    this.#lockPath = options.lockPath;
    this.#reach = new VolumeReach(options, (gone) => {
      for (const file of this.#open) void file.follow(gone);
    });
  }

  /** The way to the volume that works now. @throws VimgError `LOCKED` naming who has it and cannot be reached */
  access(): Promise<PlaceAccess> {
    return this.#reach.access();
  }

  /** Ends this process's use of the volume; one that had it attached says farewell to its clients. */
  close(): Promise<void> {
    return this.#reach.close();
  }

  ask(question: string, argument?: string): Promise<unknown> {
    return this.#again((access) => access.ask(question, argument));
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

  /** Does what must not be done twice. @returns undefined when it was seen to be done, and the answer was lost */
  async #once<T>(
    what: { readonly op: string; readonly path: string },
    work: (access: PlaceAccess) => Promise<T>,
    wasDone: WasDone,
  ): Promise<T | undefined> {
    for (;;) {
      const access = await this.access();
      try {
        return await work(access);
      } catch (error) {
        if (!(error instanceof PlaceGone)) throw error;
        if (error.orderly) continue;
        const done = await wasDone();
        if (done === true) return undefined;
        if (done === false) continue;
        throw new VimgError('IO', 'The process that had the volume was killed before it answered', {
          ...what,
          hint: 'look whether it was done, and do it again if not',
          cause: error,
        });
      }
    }
  }

  async #identity(path: string): Promise<string | undefined> {
    return (await this.status(path))?.identity;
  }

  /** For what makes a file: when there is none it was not done, but one that is there may be another's. */
  async #wasMade(path: string): Promise<false | undefined> {
    return (await this.#identity(path)) === undefined ? false : undefined;
  }

  async open(path: string, options: FileDeviceOptions): Promise<DiskFile> {
    for (;;) {
      // what is there is claimed first, so that nobody who has a claim finds the file opened by one who gets none
      const before = options.create === 'exclusive' ? undefined : await this.#identity(path);
      const file = await this.#openClaimed(path, options, before);
      if (file) return file;
    }
  }

  /** @returns undefined when another file got the name meanwhile */
  async #openClaimed(
    path: string,
    options: FileDeviceOptions,
    before: string | undefined,
  ): Promise<VolumeFile | undefined> {
    const { lock = 'none', create, ...others } = options;
    const refuse = (name: string, mode: typeof lock): Promise<void> =>
      this.#again(({ files }) => files.refuseLock(name, mode));
    const claimed = async (identity: string): Promise<FileClaim> => {
      const made = new FileClaim(this.#lockPath, identity);
      try {
        await made.change(lock, path, () => refuse(path, lock));
        return made;
      } catch (error) {
        await made.release();
        throw error;
      }
    };
    let claim = before === undefined ? undefined : await claimed(before);
    let opened: (OpenedFile & { readonly file: PlaceFile }) | undefined;
    try {
      opened = await this.#openOnce(path, options);
      const { identity } = opened.file;
      if (before !== undefined && before !== identity) {
        await opened.file.close();
        await claim?.release();
        return undefined;
      }
      claim ??= await claimed(identity);
      const file = new VolumeFile(opened, {
        claim,
        refuse,
        reopen: (name, mode) => this.#reopen(name, identity, { ...others, lock: mode }),
        onClosed: () => this.#open.delete(file),
      });
      this.#open.add(file);
      return file;
    } catch (error) {
      await opened?.file.close().catch(() => undefined); // what went wrong first is told
      await claim?.release();
      throw error;
    }
  }

  async #openOnce(
    path: string,
    options: FileDeviceOptions,
  ): Promise<OpenedFile & { readonly file: PlaceFile }> {
    const opened = await this.#once(
      { op: 'open', path },
      async ({ files, remote }) => ({ file: await files.open(path, options), remote }),
      // only a file that was to be made may not be made twice
      async () => (options.create === 'exclusive' ? this.#wasMade(path) : false),
    );
    return opened as NonNullable<typeof opened>;
  }

  /** The same file, where the volume is reached now. */
  #reopen(path: string, identity: string, options: FileDeviceOptions): Promise<OpenedFile> {
    return this.#again(async ({ files, remote }) => {
      const file = await files.open(path, options);
      if (file.identity === identity) return { file, remote };
      await file.close();
      throw new VimgError('IO', 'The file was replaced while the volume was attached anew', { path });
    });
  }

  status(path: string): Promise<FileStatus | undefined> {
    return this.#again((access) => access.files.status(path));
  }

  lockHolders(path: string): Promise<readonly number[]> {
    return this.#again((access) => access.files.lockHolders(path));
  }

  list(folder: string): Promise<string[]> {
    return this.#again((access) => access.files.list(folder));
  }

  realPath(path: string): Promise<string> {
    return this.#again((access) => access.files.realPath(path));
  }

  async rename(from: string, to: string): Promise<void> {
    const identity = await this.#identity(from);
    await this.#once(
      { op: 'rename', path: from },
      ({ files }) => files.rename(from, to),
      async () => (await this.#identity(from)) !== identity && (await this.#identity(to)) === identity,
    );
  }

  async link(path: string, second: string): Promise<void> {
    const identity = await this.#identity(path);
    await this.#once(
      { op: 'link', path },
      ({ files }) => files.link(path, second),
      async () => (await this.#identity(second)) === identity,
    );
  }

  async copy(path: string, target: string): Promise<boolean> {
    const copied = await this.#once(
      { op: 'copy', path },
      async ({ files }) => (await files.copy?.(path, target)) ?? false,
      () => this.#wasMade(target),
    );
    return copied === true;
  }

  async remove(path: string): Promise<void> {
    const identity = await this.#identity(path);
    await this.#once(
      { op: 'remove', path },
      ({ files }) => files.remove(path),
      async () => (await this.#identity(path)) !== identity,
    );
  }

  async makeFolder(path: string): Promise<void> {
    await this.#once(
      { op: 'make the folder', path },
      ({ files }) => files.makeFolder(path),
      () => this.#wasMade(path),
    );
  }

  async removeFolder(path: string): Promise<void> {
    const identity = await this.#identity(path);
    await this.#once(
      { op: 'remove', path },
      ({ files }) => files.removeFolder(path),
      async () => (await this.#identity(path)) !== identity,
    );
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
