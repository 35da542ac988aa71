/**
 * A folder of the host as a place for disk files: what a directory datastore is made of. Links that lead out of the
 * folder are not followed, and messages name files as the user does (`ds1:vm1/root.vvd`).
 */
import { basename, dirname, join, sep } from 'node:path';
import { isVimgError, VimgError } from '../base/errors.ts';
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { DiskFile, FileStatus, FileSystem } from '../device/file-system.ts';
import { hostFiles } from '../device/host-files.ts';

/** The marker of a directory datastore: which it is. Not a file of the datastore. */
export const MARKER = '.vimg-datastore';

export class DirectoryFiles implements FileSystem {
  readonly #name: string;
  readonly #root: string;

  private constructor(name: string, root: string) {
    this.#name = name;
    this.#root = root;
  }

  /** @throws VimgError `NOT_FOUND` when the folder is not there */
  static async open(name: string, folder: string): Promise<DirectoryFiles> {
    return new DirectoryFiles(name, await hostFiles.realPath(folder));
  }

  open(path: string, options: FileDeviceOptions): Promise<DiskFile> {
    return this.#at(path, (host) => hostFiles.open(host, { ...options, name: path }));
  }

  status(path: string): Promise<FileStatus | undefined> {
    return this.#at(path, (host) => hostFiles.status(host)).catch((error: unknown) => {
      if (isVimgError(error, 'NOT_FOUND')) return undefined;
      throw error;
    });
  }

  hostPath(path: string): Promise<string> {
    return this.#at(path, (host) => Promise.resolve(host));
  }

  async list(folder: string): Promise<string[]> {
    const names = await this.#at(folder, (host) => hostFiles.list(host));
    return names.filter((name) => name !== MARKER);
  }

  async realPath(path: string): Promise<string> {
    const host = await this.#at(path, (found) => hostFiles.realPath(found));
    return `${this.#name}:${host.slice(this.#root.length).replace(/^\/+/, '')}`;
  }

  rename(from: string, to: string): Promise<void> {
    return this.#atName(from, (host) => this.#atName(to, (target) => hostFiles.rename(host, target)));
  }

  link(path: string, second: string): Promise<void> {
    return this.#at(path, (host) => this.#atName(second, (target) => hostFiles.link(host, target)));
  }

  remove(path: string): Promise<void> {
    return this.#atName(path, (host) => hostFiles.remove(host));
  }

  makeFolder(path: string): Promise<void> {
    return this.#atName(path, (host) => hostFiles.makeFolder(host));
  }

  removeFolder(path: string): Promise<void> {
    return this.#atName(path, (host) => hostFiles.removeFolder(host));
  }

  syncFolder(folder: string): Promise<void> {
    return this.#at(folder, (host) => hostFiles.syncFolder(host));
  }

  replace(path: string, content: Uint8Array | string): Promise<void> {
    return this.#at(path, (host) => hostFiles.replace(host, content));
  }

  keepOwner(path: string, replaced: FileStatus): Promise<void> {
    return this.#at(path, (host) => hostFiles.keepOwner(host, replaced));
  }

  removeAtExit(path: string): void {
    hostFiles.removeAtExit?.(join(this.#root, this.#inner(path)));
  }

  #inner(path: string): string {
    return join('/', path.slice(this.#name.length + 1));
  }

  /** Works on what a name leads to, which has to lie inside. */
  async #at<T>(path: string, work: (host: string) => Promise<T>): Promise<T> {
    return this.#atName(path, async (host) => {
      const status = await hostFiles.status(host);
      return work(status === undefined ? host : this.#inside(path, await hostFiles.realPath(host)));
    });
  }

  /** Works on the name itself: the folders on the way have to lie inside. */
  async #atName<T>(path: string, work: (host: string) => Promise<T>): Promise<T> {
    const host = join(this.#root, this.#inner(path));
    if (basename(host) === MARKER) {
      throw new VimgError('USAGE', 'This name belongs to the datastore itself', { path });
    }
    try {
      if (host === join(this.#root, '/')) return await work(this.#root);
      const folder = this.#inside(path, await hostFiles.realPath(dirname(host)));
      return await work(join(folder, basename(host)));
    } catch (error) {
      throw isVimgError(error) && error.path?.startsWith(this.#root) ? error.about(path) : error;
    }
  }

  #inside(path: string, real: string): string {
    if (real === this.#root || real.startsWith(this.#root + sep)) return real;
    throw new VimgError('UNSUPPORTED', 'A symbolic link leads out of the datastore', { op: 'open', path });
  }
}
