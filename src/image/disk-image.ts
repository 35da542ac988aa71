/**
 * A VM disk: a chain of layers with one I/O engine under it. A disk image is itself a `BlockDevice`, so everything
 * that takes a device takes a disk.
 *
 * Reading walks the layers' maps; writing goes to the top layer, copying the edges of partly written units from what
 * the guest saw there. When the mapping is cached and the file answers in the same tick, so does the disk.
 */
import { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from '../device/block-device.ts';
import { PendingWork } from '../device/pending-work.ts';
import { DiskCaches } from './cache-statistics.ts';
import { ChainResolver } from './chain-resolver.ts';
import { DATA, type Layer, Location } from './layer.ts';
import { type MapExtent, mapExtent, toStatus } from './map-extent.ts';
import { type OpenDiskOptions, openLayers } from './open-chain.ts';
import { ReadPath } from './read-path.ts';
import { WritePath } from './write-path.ts';

export type { OpenDiskOptions } from './open-chain.ts';
export type { MapExtent };

/** Where a range is stored byte for byte. */
export interface StoredRange {
  readonly device: BlockDevice;
  readonly deviceOffset: number;
  readonly length: number;
}

/** Whether a range may differ from what it was at a snapshot. Lengths are bytes. */
export interface ChangeExtent {
  readonly length: number;
  readonly changed: boolean;
}

const LIMITS_OF_DISK: DeviceLimits = { alignment: 1, discardGranularity: 4096, growable: false };

export class DiskImage implements BlockDevice {
  readonly path: string;
  readonly format: string;
  /** The format was taken from the content and nothing but "raw" fitted: a guess. */
  readonly probed: boolean;
  readonly limits: DeviceLimits = LIMITS_OF_DISK;
  /** Whether small transfers may block the thread. */
  readonly blocking: boolean;
  /** How often what it needed was at hand. */
  readonly caches: DiskCaches = new DiskCaches();
  #layers: readonly Layer[];
  #resolver: ChainResolver;
  #reads: ReadPath;
  #writes: WritePath | undefined;
  readonly #underWay = new PendingWork();
  /** Something has the disk to itself, and everything else waits; never rejects. */
  #held: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  /** Use {@link DiskImage.open}; this takes layers that are open already. */
  constructor(path: string, layers: readonly Layer[], opened: { probed?: boolean; blocking?: boolean } = {}) {
    this.path = path;
    this.format = (layers[0] as Layer).format;
    this.probed = opened.probed ?? false;
    this.blocking = opened.blocking ?? true;
    this.#layers = layers;
    this.#resolver = new ChainResolver(layers);
    this.#reads = new ReadPath(this.#resolver, this.caches);
    this.#writes = writePathOf(layers, this.#reads);
    this.caches.setLayers(layers);
  }

  /**
   * Opens a disk and the layers behind it.
   *
   * @param path a host file
   * @throws VimgError `NOT_FOUND`, `INVALID_FORMAT`, `UNSUPPORTED`, `CORRUPT`, `STALE_PARENT`, `LOCKED`, `LIMIT`
   */
  static async open(path: string, options: OpenDiskOptions): Promise<DiskImage> {
    const { layers, probed } = await openLayers(path, options);
    return new DiskImage(path, layers, { probed, blocking: options.blocking ?? true });
  }

  get name(): string {
    return this.path;
  }

  get size(): number {
    return this.top.virtualSize;
  }

  get virtualSize(): number {
    return this.top.virtualSize;
  }

  get readOnly(): boolean {
    return this.#writes === undefined;
  }

  /** Top first. Others after a snapshot was taken while the disk is open. */
  get layers(): readonly Layer[] {
    return this.#layers;
  }

  /** The layer that takes the writes. */
  get top(): Layer {
    return this.layers[0] as Layer;
  }

  pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    if (this.#held !== undefined) return this.#held.then(() => this.pread(buffer, offset));
    this.#checkRange(offset, buffer.length, 'read');
    return this.#track(this.#reads.read(buffer, offset));
  }

  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    if (this.#held !== undefined) return this.#held.then(() => this.pwrite(buffer, offset));
    this.#checkRange(offset, buffer.length, 'write');
    return this.#track(this.#writable().write(buffer, offset));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): MaybePromise<void> {
    if (this.#held !== undefined) {
      return this.#held.then(() => this.writeZeroes(offset, length, options));
    }
    this.#checkRange(offset, length, 'write zeroes');
    return this.#track(this.#writable().zero(offset, length, options.keepAllocated ?? false));
  }

  /** The aligned part of the range reads as zeroes afterwards; its space is freed. */
  discard(offset: number, length: number): MaybePromise<void> {
    if (this.#held !== undefined) return this.#held.then(() => this.discard(offset, length));
    this.#checkRange(offset, length, 'discard');
    return this.#track(this.#writable().discard(offset, length));
  }

  flush(): MaybePromise<void> {
    if (this.#held !== undefined) return this.#held.then(() => this.flush());
    return this.#track(this.#writes?.flush());
  }

  /** Counts what did not complete in the same tick: a write that is under way when the disk is closed is not lost. */
  #track(work: MaybePromise<void>): MaybePromise<void> {
    return isPromise(work) ? this.#underWay.track(work) : work;
  }

  status(offset: number, length: number): MaybePromise<Extent> {
    const extent = this.mapAt(offset, length);
    return isPromise(extent) ? extent.then(toStatus) : toStatus(extent);
  }

  /** The extent at `offset`, `length` bytes long at most. Neighbours of one kind are not merged. */
  mapAt(offset: number, length: number): MaybePromise<MapExtent> {
    if (this.#held !== undefined) return this.#held.then(() => this.mapAt(offset, length));
    this.#checkRange(offset, length, 'map');
    const location = new Location();
    const depth = this.#resolver.resolve(offset, length, location);
    const extent = isPromise(depth)
      ? depth.then((found) => this.#mapExtent(offset, location, found))
      : this.#mapExtent(offset, location, depth);
    return isPromise(extent) ? this.#underWay.track(extent) : extent;
  }

  /** Where the first part of a range is stored byte for byte, and may be used unverified; nothing elsewhere. */
  async storedAt(offset: number, length: number): Promise<StoredRange | undefined> {
    while (this.#held !== undefined) await this.#held;
    this.#checkRange(offset, length, 'map');
    const location = new Location();
    const found = this.#resolver.resolve(offset, length, location);
    if (isPromise(found)) await this.#underWay.track(found);
    const { device, deviceOffset, kind, verify } = location;
    if (kind !== DATA || verify || device === undefined) return undefined;
    return { device, deviceOffset, length: location.length };
  }

  /** The snapshots that the disk stands on, newest first. */
  get snapshots(): string[] {
    return this.layers.flatMap(({ snapshotName }) => snapshotName ?? []);
  }

  /**
   * Whether what lies at `offset` may have changed since a snapshot: whether a layer above the snapshot's holds it, or
   * ends before it. What the snapshot did not reach counts as changed, and everything does when the disk does not
   * stand on such a snapshot. Neighbours of one kind are not merged.
   */
  changedSince(snapshot: string, offset: number, length: number): MaybePromise<ChangeExtent> {
    if (this.#held !== undefined) {
      return this.#held.then(() => this.changedSince(snapshot, offset, length));
    }
    this.#checkRange(offset, length, 'map');
    const at = this.layers.findIndex(({ snapshotName }) => snapshotName === snapshot);
    const end = this.layers[at]?.virtualSize ?? 0;
    if (offset >= end) return { length, changed: true };
    const location = new Location();
    const depth = this.#resolver.resolve(offset, Math.min(length, end - offset), location);
    if (!isPromise(depth)) return { length: location.length, changed: depth < at };
    return this.#underWay.track(depth).then((found) => ({ length: location.length, changed: found < at }));
  }

  /** Sets the size. It starts when everything under way is done, and what comes meanwhile waits for its end. */
  async resize(size: number): Promise<void> {
    await this.exclusively(() => this.#writable().resize(size));
  }

  /**
   * Does `work` while nothing else is under way in this disk: what came before is done, what comes meanwhile waits.
   * The work uses the layers, not the disk.
   */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held !== undefined) await this.#held;
    this.#writable();
    let done = (): void => undefined;
    this.#held = new Promise((resolve) => {
      done = resolve;
    });
    try {
      await this.#underWay.idle();
      return await work();
    } finally {
      this.#held = undefined;
      done();
    }
  }

  /** Other layers hold the same content from now on. To be called within `exclusively`. */
  setLayers(layers: readonly Layer[]): void {
    this.#layers = layers;
    this.#resolver = new ChainResolver(layers);
    this.#reads = new ReadPath(this.#resolver, this.caches);
    this.#writes = writePathOf(layers, this.#reads);
    this.caches.setLayers(layers);
  }

  /**
   * Stores one whole unit of the top layer compressed; as data when it does not shrink.
   *
   * @throws VimgError `UNSUPPORTED` when the format cannot
   */
  async writeCompressed(offset: number, unit: Uint8Array): Promise<void> {
    while (this.#held !== undefined) await this.#held;
    this.#checkRange(offset, unit.length, 'write');
    await this.#underWay.track(this.#writable().writeCompressed(offset, unit));
  }

  async allocatedBytes(): Promise<number | undefined> {
    return await this.top.file.allocatedBytes();
  }

  /**
   * Waits for what is under way, flushes, closes every layer and releases their locks. Throws what the flush threw;
   * idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#closeLayers();
    return this.#closed;
  }

  async #closeLayers(): Promise<void> {
    while (this.#held !== undefined) await this.#held;
    await this.#underWay.idle();
    const failures: unknown[] = [];
    for (const layer of this.layers) {
      try {
        await layer.close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #writable(): WritePath {
    if (this.#closed !== undefined) throw new VimgError('IO', 'The disk is closed', { path: this.path });
    if (!this.#writes) throw new VimgError('READ_ONLY', 'The disk is open read-only', { path: this.path });
    return this.#writes;
  }

  #checkRange(offset: number, length: number, op: string): void {
    if (
      !(offset >= 0 && length >= 0 && offset + length <= this.size) ||
      !Number.isSafeInteger(offset + length)
    ) {
      throw new VimgError(
        'OUT_OF_BOUNDS',
        `${op} of ${length} bytes at ${offset} passes the end at ${this.size}`,
        {
          op,
          path: this.path,
          offset,
        },
      );
    }
  }

  #mapExtent(offset: number, location: Location, depth: number): MaybePromise<MapExtent> {
    const reached = this.layers[depth];
    // behind the end of a layer that is shorter than the disk there is nothing, and nobody holds it
    const holder = reached !== undefined && offset < reached.virtualSize ? reached : undefined;
    if (location.kind === DATA && holder?.unit === 1) {
      const found = location.device?.status(location.deviceOffset, location.length);
      if (isPromise(found)) return found.then((extent) => mapExtent(offset, location, depth, holder, extent));
      if (found !== undefined) return mapExtent(offset, location, depth, holder, found);
    }
    return mapExtent(offset, location, depth, holder);
  }
}

function writePathOf(layers: readonly Layer[], reads: ReadPath): WritePath | undefined {
  const top = layers[0] as Layer;
  return top.writer && new WritePath(top, top.writer, reads, layers[1]?.virtualSize ?? 0);
}
