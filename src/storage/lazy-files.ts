/** A place that is opened when it is first used: most command lines use one datastore of those that are known. */
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { DiskFile, FileStatus, FileSystem } from '../device/file-system.ts';

export class LazyFiles implements FileSystem {
  readonly #open: () => Promise<FileSystem>;
  #opening: Promise<FileSystem> | undefined;
  #opened: FileSystem | undefined;

  constructor(open: () => Promise<FileSystem>) {
    this.#open = open;
  }

  async #files(): Promise<FileSystem> {
    this.#opening ??= this.#open();
    this.#opened = await this.#opening;
    return this.#opened;
  }

  async open(path: string, options: FileDeviceOptions): Promise<DiskFile> {
    return (await this.#files()).open(path, options);
  }

  async status(path: string): Promise<FileStatus | undefined> {
    return (await this.#files()).status(path);
  }

  async hostPath(path: string): Promise<string | undefined> {
    return (await this.#files()).hostPath?.(path);
  }

  async lockHolders(path: string): Promise<readonly number[] | undefined> {
    return (await this.#files()).lockHolders?.(path);
  }

  async list(folder: string): Promise<string[]> {
    return (await this.#files()).list(folder);
  }

  async realPath(path: string): Promise<string> {
    return (await this.#files()).realPath(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await (await this.#files()).rename(from, to);
  }

  async link(path: string, second: string): Promise<void> {
    await (await this.#files()).link(path, second);
  }

  async copy(path: string, target: string): Promise<boolean> {
    return (await (await this.#files()).copy?.(path, target)) ?? false;
  }

  async remove(path: string): Promise<void> {
    await (await this.#files()).remove(path);
  }

  async makeFolder(path: string): Promise<void> {
    await (await this.#files()).makeFolder(path);
  }

  async removeFolder(path: string): Promise<void> {
    await (await this.#files()).removeFolder(path);
  }

  async syncFolder(folder: string): Promise<void> {
    await (await this.#files()).syncFolder(folder);
  }

  async replace(path: string, content: Uint8Array | string): Promise<void> {
    await (await this.#files()).replace(path, content);
  }

  async keepOwner(path: string, replaced: FileStatus): Promise<void> {
    await (await this.#files()).keepOwner(path, replaced);
  }

  removeAtExit(path: string): void {
    this.#opened?.removeAtExit?.(path);
  }
}
