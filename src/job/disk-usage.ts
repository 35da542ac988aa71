/**
 * Disk usage: what the space that a disk takes is for.
 *
 * - `live`: bytes of data that the guest can read, wherever they lie in the chain.
 * - `exclusive`: what the disk's own file takes on the host: deleting the disk frees it.
 * - `shared`: what the files of the layers behind take: other disks may stand on them.
 * - `reclaimable`: bytes of data in layers behind that a newer layer hides, and space of the disk's own file that
 *   holds neither reachable data nor metadata.
 */
import type { DiskImage } from '../image/disk-image.ts';
import type { Layer } from '../image/layer.ts';
import { breathe, type JobOptions, throwIfCancelled } from './job.ts';

export interface LayerUsage {
  readonly path: string;
  readonly format: string;
  /** Bytes that the file takes on the host. */
  readonly allocatedBytes: number;
  /** Bytes of it that the guest of this disk reads. */
  readonly liveBytes: number;
}

export interface DiskUsage {
  readonly virtualSize: number;
  readonly liveBytes: number;
  readonly exclusiveBytes: number;
  readonly sharedBytes: number;
  readonly reclaimableBytes: number;
  /** Top first. */
  readonly layers: readonly LayerUsage[];
}

/** Bytes of metadata for each byte of data, at most: what `reclaimable` leaves out of account. */
const METADATA_SHARE = 1 / 1024;
const METADATA_FLOOR = 4 * 1024 * 1024;

/** Walks the disk's map and adds up. Reads no data. */
export async function diskUsage(disk: DiskImage, options: JobOptions = {}): Promise<DiskUsage> {
  const live = new Array<number>(disk.layers.length).fill(0);
  let steps = 0;
  for (let offset = 0; offset < disk.size; ) {
    throwIfCancelled(options.signal);
    await breathe(++steps);
    const extent = await disk.mapAt(offset, disk.size - offset);
    if (extent.data) live[extent.depth] = (live[extent.depth] ?? 0) + extent.length;
    offset += extent.length;
  }
  const layers: LayerUsage[] = [];
  for (const [depth, layer] of disk.layers.entries()) {
    layers.push(await layerUsage(layer, live[depth] ?? 0));
  }
  const [own, ...behind] = layers;
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  return {
    virtualSize: disk.virtualSize,
    liveBytes: sum(layers.map((layer) => layer.liveBytes)),
    exclusiveBytes: own?.allocatedBytes ?? 0,
    sharedBytes: sum(behind.map((layer) => layer.allocatedBytes)),
    reclaimableBytes: sum(layers.map(reclaimable)),
    layers,
  };
}

async function layerUsage(layer: Layer, liveBytes: number): Promise<LayerUsage> {
  return {
    path: layer.file.name,
    format: layer.format,
    allocatedBytes: (await layer.file.allocatedBytes()) ?? layer.file.size,
    liveBytes,
  };
}

/** An estimate from below: compressed layers take less than they hold, so nothing is promised of them. */
function reclaimable(layer: LayerUsage): number {
  const needed = layer.liveBytes + METADATA_FLOOR + layer.liveBytes * METADATA_SHARE;
  return Math.max(0, Math.floor(layer.allocatedBytes - needed));
}
