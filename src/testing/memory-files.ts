/**
 * A place for disk files in memory, with folders, second names and locks: what tests of whole-file operations mount.
 *
 * Every change of names happens at once and counts as durable; a file lives as long as it has a name or is open.
 */
import { VimgError } from '../base/errors.ts';
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { DiskFile, FileStatus, FileSystem } from '../device/file-system.ts';
import { ForwardingDevice } from '../device/forwarding-device.ts';
import { MemoryDevice } from '../device/memory-device.ts';

type LockMode = 'none' | 'read' | 'write';

interface MemoryFile {
  readonly id: number;
  readonly device: MemoryDevice;
  readonly opened: Set<OpenMemoryFile>;
  changes: number;
}

class OpenMemoryFile extends ForwardingDevice implements DiskFile {
  #name: string;
  readonly #file: MemoryFile;
  readonly #readOnly: boolean;
  lock: LockMode = 'none';

  constructor(name: string, file: MemoryFile, readOnly: boolean) {
    super(file.device);
    this.#name = name;
    this.#file = file;
    this.#readOnly = readOnly;
    file.opened.add(this);
  }

  override get name(): string {
    return this.#name;
  }

  override set name(path: string) {
    this.#name = path;
  }

  override get readOnly(): boolean {
    return this.#readOnly;
  }

  get locked(): boolean {
    return this.lock !== 'none';
  }

  override pwrite(buffer: Uint8Array, offset: number): void {
    if (this.#readOnly) throw new VimgError('READ_ONLY', 'it was opened for reading', { path: this.#name });
    this.#file.changes++;
    this.#file.device.pwrite(buffer, offset);
  }

  changeLock(mode: LockMode): Promise<void> {
    for (const other of this.#file.opened) {
      if (other === this || mode === 'none' || other.lock === 'none') continue;
      if (mode === 'write' || other.lock === 'write') {
        return Promise.reject(
          new VimgError('LOCKED', 'the image is in use', { op: 'lock', path: this.#name }),
        );
      }
    }
    this.lock = mode;
    return Promise.resolve();
  }

  override close(): Promise<void> {
    this.#file.opened.delete(this);
    return Promise.resolve();
  }
}

/** Files made by this process: what tells them apart, in whatever place. */
let made = 0;

export class MemoryFiles implements FileSystem {
  /** Files, and `undefined` for folders, by their path inside. */
  readonly #names = new Map<string, MemoryFile | undefined>([['', undefined]]);

  async open(path: string, options: FileDeviceOptions): Promise<DiskFile> {
    const { create, readOnly = false, lock = 'none' } = options;
    const key = keyOf(path);
    if (create === 'exclusive') this.#refuseTaken(path);
    if (create !== undefined && !this.#names.has(key)) {
      this.#requireFolder(path);
      const device = MemoryDevice.create(0, { name: path });
      this.#names.set(key, { id: ++made, device, opened: new Set(), changes: 0 });
    }
    const open = new OpenMemoryFile(path, this.#file(path, 'open'), readOnly);
    try {
      await open.changeLock(lock);
      if (create === 'truncate') await open.resize(0);
      return open;
    } catch (error) {
      await open.close();
      throw error;
    }
  }

  status(path: string): Promise<FileStatus | undefined> {
    const key = keyOf(path);
    const file = this.#names.get(key);
    if (!this.#names.has(key)) return Promise.resolve(undefined);
    return Promise.resolve({
      kind: file ? 'file' : 'folder',
      size: file?.device.size ?? 0,
      allocated: file?.device.allocatedBytes() ?? 0,
      identity: file ? `file ${file.id}` : `folder ${key}`,
      modifiedNs: BigInt(file?.changes ?? 0),
    });
  }

  list(folder: string): Promise<string[]> {
    const key = keyOf(folder);
    if (!this.#names.has(key) || this.#names.get(key)) return Promise.reject(missing('list', folder));
    const start = key === '' ? '' : `${key}/`;
    const inside = [...this.#names.keys()].filter((name) => name !== '' && name.startsWith(start));
    return Promise.resolve(
      inside.map((name) => name.slice(start.length)).filter((name) => name !== '' && !name.includes('/')),
    );
  }

  realPath(path: string): Promise<string> {
    return this.#names.has(keyOf(path)) ? Promise.resolve(path) : Promise.reject(missing('open', path));
  }

  rename(from: string, to: string): Promise<void> {
    const file = this.#file(from, 'rename');
    this.#requireFolder(to);
    this.#names.delete(keyOf(from));
    this.#names.set(keyOf(to), file);
    return Promise.resolve();
  }

  link(path: string, second: string): Promise<void> {
    const file = this.#file(path, 'link');
    this.#refuseTaken(second);
    this.#names.set(keyOf(second), file);
    return Promise.resolve();
  }

  remove(path: string): Promise<void> {
    this.#file(path, 'remove');
    this.#names.delete(keyOf(path));
    return Promise.resolve();
  }

  makeFolder(path: string): Promise<void> {
    this.#refuseTaken(path);
    this.#requireFolder(path);
    this.#names.set(keyOf(path), undefined);
    return Promise.resolve();
  }

  async removeFolder(path: string): Promise<void> {
    if ((await this.list(path)).length > 0) {
      throw new VimgError('USAGE', 'The folder is not empty', { op: 'remove', path });
    }
    this.#names.delete(keyOf(path));
  }

  syncFolder(_folder: string): Promise<void> {
    return Promise.resolve();
  }

  async replace(path: string, content: Uint8Array | string): Promise<void> {
    const device = MemoryDevice.from(Buffer.from(content), { name: path });
    await this.open(path, { create: 'truncate' }).then((file) => file.close());
    this.#names.set(keyOf(path), { id: ++made, device, opened: new Set(), changes: 0 });
  }

  keepOwner(_path: string, _replaced: FileStatus): Promise<void> {
    return Promise.resolve();
  }

  #file(path: string, op: string): MemoryFile {
    const file = this.#names.get(keyOf(path));
    if (!file) throw missing(op, path);
    return file;
  }

  #refuseTaken(path: string): void {
    if (this.#names.has(keyOf(path))) throw new VimgError('EXISTS', 'File exists', { op: 'create', path });
  }

  #requireFolder(path: string): void {
    const folder = keyOf(path).split('/').slice(0, -1).join('/');
    if (!this.#names.has(folder) || this.#names.get(folder)) throw missing('create', path);
  }
}

/** `ds1:a/b` is `a/b` inside. */
function keyOf(path: string): string {
  return path.slice(path.indexOf(':') + 1).replace(/^\/+|\/+$/g, '');
}

function missing(op: string, path: string): VimgError {
  return new VimgError('NOT_FOUND', 'No such file or directory', { op, path });
}
