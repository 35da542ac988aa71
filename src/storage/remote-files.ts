/** The files of a volume that another process of this host has attached. */
import type { DeviceLimits, Extent, WriteZeroesOptions } from '../device/block-device.ts';
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { FileStatus } from '../device/file-system.ts';
import { checkDiscard, checkInside, checkResize, checkWritable } from '../device/range-check.ts';
import type { LockMode } from '../host/file-lock.ts';
import { BODY_MAX, type Frame } from './frame.ts';
import type { PlaceClient } from './place-client.ts';
import type { PlaceFile, PlaceFiles } from './place-files.ts';
import { type OpenAnswer, statusFromWire } from './place-protocol.ts';

class RemoteFile implements PlaceFile {
  readonly identity: string;
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  readonly #client: PlaceClient;
  readonly #handle: number;
  #name: string;
  #size: number;
  #locked: boolean;
  #closed: Promise<void> | undefined;

  constructor(client: PlaceClient, name: string, answer: OpenAnswer) {
    this.#client = client;
    this.#name = name;
    this.#handle = answer.handle;
    this.identity = answer.identity;
    this.#size = answer.size;
    this.#locked = answer.locked;
    this.limits = answer.limits;
    this.readOnly = answer.readOnly;
  }

  get name(): string {
    return this.#name;
  }

  set name(name: string) {
    this.#name = name;
    this.#ask({ method: 'name', name }).catch(() => undefined); // for messages only
  }

  get size(): number {
    return this.#size;
  }

  get locked(): boolean {
    return this.#locked;
  }

  async changeLock(mode: 'none' | 'read' | 'write'): Promise<void> {
    await this.#ask({ method: 'lock', mode });
    this.#locked = mode !== 'none';
  }

  async pread(buffer: Uint8Array, offset: number): Promise<void> {
    checkInside(this, 'read', offset, buffer.length);
    for (let at = 0; at < buffer.length; at += BODY_MAX) {
      const part = buffer.subarray(at, at + BODY_MAX);
      const head = { method: 'read', handle: this.#handle, offset: offset + at, length: part.length };
      await this.#client.read(head, part);
    }
  }

  async pwrite(buffer: Uint8Array, offset: number): Promise<void> {
    checkWritable(this, 'write', offset, buffer.length);
    for (let at = 0; at < buffer.length; at += BODY_MAX) {
      await this.#ask({ method: 'write', offset: offset + at }, buffer.subarray(at, at + BODY_MAX));
    }
    this.#size = Math.max(this.#size, offset + buffer.length);
  }

  async writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): Promise<void> {
    checkWritable(this, 'write zeroes', offset, length);
    await this.#ask({ method: 'zero', offset, length, keepAllocated: options.keepAllocated ?? false });
    this.#size = Math.max(this.#size, offset + length);
  }

  async discard(offset: number, length: number): Promise<void> {
    checkDiscard(this, offset, length);
    await this.#ask({ method: 'discard', offset, length });
  }

  async flush(): Promise<void> {
    await this.#ask({ method: 'flush' });
  }

  async status(offset: number, length: number): Promise<Extent> {
    checkInside(this, 'status', offset, length);
    return (await this.#ask({ method: 'status', offset, length })).head['result'] as Extent;
  }

  async resize(size: number): Promise<void> {
    checkResize(this, size, true);
    await this.#ask({ method: 'resize', length: size });
    this.#size = size;
  }

  async allocatedBytes(): Promise<number | undefined> {
    return ((await this.#ask({ method: 'allocated' })).head['result'] as number | null) ?? undefined;
  }

  close(): Promise<void> {
    this.#closed ??= this.#ask({ method: 'close' }).then(() => undefined);
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #ask(head: Frame['head'], body?: Uint8Array): Promise<Frame> {
    return this.#client.request({ ...head, handle: this.#handle }, body);
  }
}

export class RemoteFiles implements PlaceFiles {
  readonly #client: PlaceClient;

  constructor(client: PlaceClient) {
    this.#client = client;
  }

  async open(path: string, options: FileDeviceOptions): Promise<PlaceFile> {
    const { create, readOnly, lock } = options;
    const wanted = { create, readOnly, lock };
    const { head } = await this.#client.request({ method: 'open', path, options: wanted });
    return new RemoteFile(this.#client, options.name ?? path, head['result'] as OpenAnswer);
  }

  async refuseLock(path: string, mode: LockMode): Promise<void> {
    await this.#client.request({ method: 'refuseLock', path, mode });
  }

  async lockHolders(path: string): Promise<readonly number[]> {
    return (await this.#ask('lockHolders', path)) as number[];
  }

  async status(path: string): Promise<FileStatus | undefined> {
    const found = await this.#ask('status', path);
    return found === null ? undefined : statusFromWire(found as Parameters<typeof statusFromWire>[0]);
  }

  async list(folder: string): Promise<string[]> {
    return (await this.#ask('list', folder)) as string[];
  }

  async realPath(path: string): Promise<string> {
    return String(await this.#ask('realPath', path));
  }

  async rename(path: string, to: string): Promise<void> {
    await this.#ask('rename', path, to);
  }

  async link(path: string, to: string): Promise<void> {
    await this.#ask('link', path, to);
  }

  async copy(path: string, target: string): Promise<boolean> {
    return (await this.#ask('copy', path, target)) === true;
  }

  async remove(path: string): Promise<void> {
    await this.#ask('remove', path);
  }

  async makeFolder(path: string): Promise<void> {
    await this.#ask('makeFolder', path);
  }

  async removeFolder(path: string): Promise<void> {
    await this.#ask('removeFolder', path);
  }

  async syncFolder(folder: string): Promise<void> {
    await this.#ask('syncFolder', folder);
  }

  async replace(path: string, content: Uint8Array | string): Promise<void> {
    await this.#client.request({ method: 'replace', path }, Buffer.from(content));
  }

  keepOwner(_path: string, _replaced: FileStatus): Promise<void> {
    return Promise.resolve(); // files of a volume have no owners
  }

  async #ask(method: string, path: string, to?: string): Promise<unknown> {
    return (await this.#client.request({ method, path, ...(to === undefined ? {} : { to }) })).head['result'];
  }
}
