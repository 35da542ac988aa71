/**
 * The disks that a process has open and in use, and what it does with them when other processes ask.
 *
 * Changes happen one after the other, each in all its disks. Looking (map, usage) goes on beside them.
 */
import { VimgError } from '../base/errors.ts';
import { resolvePath } from '../device/file-path.ts';
import { fileIdentity } from '../device/files.ts';
import type { DiskImage, MapExtent } from '../image/disk-image.ts';
import type { AttributeChange, DeletePlan, LongOperation } from '../image/lifecycle.ts';
import {
  changeOpenAttributes,
  deleteOpenSnapshot,
  snapshotForClone,
  snapshotOpenDisks,
} from '../image/open-disks.ts';
import type { FormatRegistry } from '../image/registry.ts';
import { mapDisk } from '../job/disk-map.ts';
import { type DiskUsage, diskUsage } from '../job/disk-usage.ts';
import type { JobOptions } from '../job/job.ts';
import { preallocate } from '../job/preallocate.ts';
import type {
  CloneBaseRequest,
  DeleteSnapshotRequest,
  DiskDescription,
  MapRequest,
  ResizeRequest,
} from './protocol.ts';

/** Walks of a disk that changed under them, until one is given up. */
const USAGE_ATTEMPTS = 5;

export class OpenDiskSet {
  readonly #disks: readonly DiskImage[];
  readonly #formats: FormatRegistry;
  #lastChange: Promise<unknown> = Promise.resolve();

  /** The disks stay the caller's, who closes them when nothing is under way here. */
  constructor(disks: readonly DiskImage[], formats: FormatRegistry) {
    this.#disks = disks;
    this.#formats = formats;
  }

  async describe(): Promise<DiskDescription[]> {
    const described: DiskDescription[] = [];
    for (const disk of this.#disks) {
      const { path, format, size, readOnly } = disk;
      const identity = await identityOf(disk);
      if (identity !== undefined) described.push({ path: whole(path), identity, format, size, readOnly });
    }
    return described;
  }

  /** @throws VimgError `NOT_FOUND` when the path is no file, or that of no disk here */
  async find(path: string): Promise<DiskImage> {
    const found = await this.#lookFor(path);
    if (found) return found;
    throw new VimgError('NOT_FOUND', 'This process does not have that disk', { path });
  }

  async #lookFor(path: string): Promise<DiskImage | undefined> {
    const identity = (await fileIdentity(path))?.identity;
    if (identity === undefined)
      throw new VimgError('NOT_FOUND', 'No such file or directory', { op: 'open', path });
    for (const disk of this.#disks) if ((await identityOf(disk)) === identity) return disk;
    return undefined;
  }

  /** A snapshot of all of these, those that nobody has open too. */
  snapshot(paths: readonly string[], name: string): Promise<void> {
    return this.#change(async () => {
      const open = new Set<DiskImage>();
      const closed: string[] = [];
      for (const path of paths) {
        const disk = await this.#lookFor(path);
        if (disk) open.add(disk);
        else closed.push(path);
      }
      await snapshotOpenDisks([...open], closed, name, this.#formats);
    });
  }

  snapshotForClone({ disk, name, clone }: CloneBaseRequest): Promise<void> {
    return this.#change(async () => snapshotForClone(await this.find(disk), name, clone, this.#formats));
  }

  deleteSnapshot({ disk, name, plan }: DeleteSnapshotRequest, operation: LongOperation): Promise<DeletePlan> {
    return this.#change(async () =>
      deleteOpenSnapshot(await this.find(disk), name, this.#formats, { ...operation, planOnly: plan }),
    );
  }

  resize({ disk: path, from, to, preallocation }: ResizeRequest, signal: AbortSignal): Promise<void> {
    return this.#change(async () => {
      const disk = await this.find(path);
      if (disk.size !== from)
        throw new VimgError('USAGE', `The disk has ${disk.size} bytes by now`, { path });
      if (to < from) {
        throw new VimgError('UNSUPPORTED', 'A disk that is in use cannot be made smaller', {
          op: 'resize',
          path,
          hint: 'end what uses it first: its guest may have data at the end',
        });
      }
      await disk.flush();
      await disk.resize(to);
      if (preallocation !== 'off') await preallocate(disk, from, to, preallocation, signal);
      await disk.flush();
    });
  }

  changeAttributes(path: string, change: AttributeChange): Promise<void> {
    return this.#change(async () => changeOpenAttributes(await this.find(path), change, this.#formats));
  }

  async *map({ disk, offset, length }: MapRequest, signal: AbortSignal): AsyncGenerator<MapExtent> {
    const range = { offset, signal, ...(length === null ? {} : { length }) };
    for await (const extent of mapDisk(await this.find(disk), range)) {
      yield extent.fileName === undefined ? extent : { ...extent, fileName: whole(extent.fileName) };
    }
  }

  /** A snapshot that is taken or deleted during the walk moves the layers: then it begins anew. */
  async usage(path: string, options: JobOptions): Promise<DiskUsage> {
    const disk = await this.find(path);
    for (let attempt = 1; ; attempt++) {
      const { layers } = disk;
      const moved = (): boolean => disk.layers !== layers && attempt < USAGE_ATTEMPTS;
      let usage: DiskUsage;
      try {
        usage = await diskUsage(disk, options);
      } catch (error) {
        if (moved()) continue; // a layer that is gone was asked
        throw error;
      }
      if (moved()) continue;
      return { ...usage, layers: usage.layers.map((layer) => ({ ...layer, path: whole(layer.path) })) };
    }
  }

  /** Resolves once no change is under way. */
  async idle(): Promise<void> {
    await this.#lastChange;
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastChange.then(work);
    this.#lastChange = result.catch(() => undefined); // who asked is told
    return result;
  }
}

async function identityOf(disk: DiskImage): Promise<string | undefined> {
  return (await fileIdentity(disk.top.file.name))?.identity;
}

/** Who asks has another working folder. */
function whole(path: string): string {
  return resolvePath(process.cwd(), path);
}
