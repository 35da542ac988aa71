/** A process that has a disk open, as another process sees it: found by the disk's lock, asked over its control socket. */
import { isVimgError, VimgError } from '../base/errors.ts';
import { ControlClient } from '../control/control-client.ts';
import { controlFolders, controlPathsOf } from '../control/control-place.ts';
import { resolvePath } from '../device/file-path.ts';
import { fileIdentity, hostPathOf, lockHoldersOf } from '../device/files.ts';
import type { MapExtent } from '../image/disk-image.ts';
import type { AttributeChange, DeletePlan, LongOperation } from '../image/lifecycle.ts';
import type { DiskUsage } from '../job/disk-usage.ts';
import {
  ATTRIBUTES,
  type AttributesRequest,
  CLONE_BASE,
  type CloneBaseRequest,
  DELETE_SNAPSHOT,
  type DeleteSnapshotRequest,
  DISKS,
  type DiskDescription,
  type DiskRequest,
  MAP,
  type MapRequest,
  type Progress,
  RESIZE,
  type ResizeRequest,
  type ServingStatistics,
  SNAPSHOT,
  type SnapshotRequest,
  STATISTICS,
  USAGE,
} from './protocol.ts';

export class DiskOwner {
  readonly pid: number;
  /** The disk by which it was found. */
  readonly disk: DiskDescription;
  readonly #given: string;
  readonly #client: ControlClient;

  /** @param given the path of the disk here; its owner has another name for it, perhaps */
  private constructor(pid: number, given: string, disk: DiskDescription, client: ControlClient) {
    this.pid = pid;
    this.#given = given;
    this.disk = disk;
    this.#client = client;
  }

  /**
   * The process of this user that has the disk open and does for others what they ask.
   *
   * @returns nothing when the disk is in use by something else
   * @throws VimgError `LOCKED` when there is such a process, but it does not answer; `UNSUPPORTED` when it is another
   *   version
   */
  static async find(
    path: string,
    environment: Readonly<Record<string, string | undefined>>,
  ): Promise<DiskOwner | undefined> {
    const uid = process.getuid?.() ?? -1;
    const folders = controlFolders(environment, uid);
    for (const pid of await lockHoldersOf(path)) {
      for (const socket of await controlPathsOf(pid, folders, uid)) {
        const owner = await DiskOwner.#connect(pid, socket, path);
        if (owner) return owner;
      }
    }
    return undefined;
  }

  static async #connect(pid: number, socket: string, path: string): Promise<DiskOwner | undefined> {
    let client: ControlClient;
    try {
      client = await ControlClient.connect(socket);
    } catch (error) {
      if (!isVimgError(error) || error.code === 'UNSUPPORTED') throw error;
      throw new VimgError(
        'LOCKED',
        `the image is served by process ${pid}, which does not answer at ${socket}`,
        {
          op: 'lock',
          path,
          hint: 'stop that process; while it hangs nothing can be done with the disk',
          cause: error,
        },
      );
    }
    const identity = (await fileIdentity(path))?.identity;
    const disks = (await client.request(DISKS, {})) as DiskDescription[];
    const disk = disks.find((each) => each.identity === identity);
    if (disk) return new DiskOwner(pid, path, disk, client);
    client.close();
    return undefined;
  }

  /** @param paths of disks; those that it does not have are opened by it */
  async snapshot(paths: readonly string[], name: string): Promise<void> {
    const told = new Map<string, string>();
    // its owner may not know a datastore that was made since it began
    for (const path of paths)
      told.set(path === this.#given ? this.disk.path : whole((await hostPathOf(path)) ?? path), path);
    const request: SnapshotRequest = { disks: [...told.keys()], name };
    try {
      await this.#client.request(SNAPSHOT, request);
    } catch (error) {
      const given = isVimgError(error) ? told.get(error.path ?? '') : undefined;
      throw isVimgError(error) && given !== undefined ? error.about(given) : error;
    }
  }

  /** A snapshot of the disk for a clone to stand on, which then is made here. */
  async snapshotForClone(name: string, clone: string): Promise<void> {
    const request: CloneBaseRequest = { disk: this.disk.path, name, clone: whole(clone) };
    await this.#client.request(CLONE_BASE, request);
  }

  async deleteSnapshot(
    { name, plan }: Omit<DeleteSnapshotRequest, 'disk'>,
    { signal, onProgress }: LongOperation,
  ): Promise<DeletePlan> {
    const request: DeleteSnapshotRequest = { disk: this.disk.path, name, plan };
    const onReport = (value: unknown): void => {
      const { done, total } = value as Progress;
      onProgress?.(done, total);
    };
    const options = { onReport, ...(signal ? { signal } : {}) };
    return (await this.#client.request(DELETE_SNAPSHOT, request, options)) as DeletePlan;
  }

  async resize(change: Omit<ResizeRequest, 'disk'>, signal: AbortSignal): Promise<void> {
    const request: ResizeRequest = { disk: this.disk.path, ...change };
    await this.#client.request(RESIZE, request, { signal });
  }

  async changeAttributes(change: AttributeChange): Promise<void> {
    const request: AttributesRequest = {
      disk: this.disk.path,
      change: [...change].map(([key, value]) => [key, value ?? null]),
    };
    await this.#client.request(ATTRIBUTES, request);
  }

  /** @param onExtents told of the extents in order, as they come */
  async map(
    range: Omit<MapRequest, 'disk'>,
    onExtents: (extents: readonly MapExtent[]) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const request: MapRequest = { disk: this.disk.path, ...range };
    await this.#client.request(MAP, request, {
      signal,
      onReport: (value) => onExtents((value as readonly MapExtent[]).map((extent) => this.#named(extent))),
    });
  }

  async usage(signal: AbortSignal): Promise<DiskUsage> {
    const request: DiskRequest = { disk: this.disk.path };
    const usage = (await this.#client.request(USAGE, request, { signal })) as DiskUsage;
    return { ...usage, layers: usage.layers.map((layer) => ({ ...layer, path: this.#nameOf(layer.path) })) };
  }

  #named(extent: MapExtent): MapExtent {
    return extent.fileName === undefined ? extent : { ...extent, fileName: this.#nameOf(extent.fileName) };
  }

  /** The disk has the name that was given here, whatever its owner calls it. */
  #nameOf(path: string): string {
    return path === this.disk.path ? this.#given : path;
  }

  async statistics(): Promise<ServingStatistics> {
    return (await this.#client.request(STATISTICS, {})) as ServingStatistics;
  }

  close(): void {
    this.#client.close();
  }
}

function whole(path: string): string {
  return resolvePath(process.cwd(), path);
}
