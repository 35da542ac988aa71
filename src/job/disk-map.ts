/** Walking a disk's map with neighbours of one kind merged: what `map` shows. Nothing is read but metadata. */
import type { DiskImage, MapExtent } from '../image/disk-image.ts';
import { breathe, throwIfCancelled } from './job.ts';

/** A part of the disk, in bytes. */
export interface MapOptions {
  /** Default 0. */
  readonly offset?: number;
  /** Default: to the end of the disk. */
  readonly length?: number;
  readonly signal?: AbortSignal;
}

/** The extents of a disk in order, without gaps; each as long as its kind and its place go on. */
export async function* mapDisk(disk: DiskImage, options: MapOptions = {}): AsyncGenerator<MapExtent> {
  const start = options.offset ?? 0;
  const end = Math.min(disk.size, start + (options.length ?? disk.size));
  let held: MapExtent | undefined;
  let steps = 0;
  for (let offset = start; offset < end; ) {
    throwIfCancelled(options.signal);
    await breathe(++steps);
    const extent = await disk.mapAt(offset, end - offset);
    offset += extent.length;
    if (held !== undefined && continues(held, extent)) {
      held = { ...held, length: held.length + extent.length };
      continue;
    }
    if (held !== undefined) yield held;
    held = extent;
  }
  if (held !== undefined) yield held;
}

/** Whether `next` is more of the same, so that both are one extent. */
function continues(extent: MapExtent, next: MapExtent): boolean {
  if (extent.zero !== next.zero || extent.data !== next.data || extent.present !== next.present) return false;
  if (extent.depth !== next.depth || extent.compressed !== next.compressed) return false;
  if (extent.fileName !== next.fileName) return false;
  if (extent.fileOffset === undefined || next.fileOffset === undefined) {
    return extent.fileOffset === next.fileOffset;
  }
  return extent.fileOffset + extent.length === next.fileOffset;
}
