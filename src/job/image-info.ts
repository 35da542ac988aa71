/** What `vimg info` knows of one image file, with the keys of `qemu-img info --output=json`. Opens no second file. */
import { folderOf, isWholePath, resolvePath } from '../device/file-path.ts';
import { placeOf } from '../device/mounts.ts';
import type { DiskImage } from '../image/disk-image.ts';
import type { Layer, SnapshotInfo } from '../image/layer.ts';

/** A snapshot as qemu-img's JSON shows it. */
export interface SnapshotEntry {
  readonly icount: number;
  readonly 'vm-clock-nsec': number;
  readonly name: string;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
  readonly 'vm-clock-sec': number;
  readonly id: string;
  readonly 'vm-state-size': number;
}

/** What `info --output=json` prints for an image. Sizes in bytes. Keys are only ever added. */
export interface ImageInfo {
  readonly snapshots?: readonly SnapshotEntry[];
  readonly 'backing-filename-format'?: string;
  readonly 'virtual-size': number;
  readonly filename: string;
  readonly 'cluster-size'?: number;
  readonly format: string;
  /** Bytes of the host's storage that the file takes. */
  readonly 'actual-size'?: number;
  readonly 'format-specific'?: { readonly type: string; readonly data: Readonly<Record<string, unknown>> };
  /** The stored name, made usable from where `filename` is. */
  readonly 'full-backing-filename'?: string;
  readonly 'backing-filename'?: string;
  readonly 'dirty-flag': boolean;
  readonly encrypted?: boolean;
  /** No format claims the content: "raw" is a guess. Only present when it is. */
  readonly 'format-guessed'?: boolean;
  /** What a reader of the image should know. Only present when there is something. */
  readonly warnings?: readonly string[];
}

const NS_PER_SECOND = 1_000_000_000;

/** Describes the top layer of a disk. @param filename the name to show, as the user gave it */
export async function imageInfo(disk: DiskImage, filename: string): Promise<ImageInfo> {
  const info = await layerInfo(disk.layers[0] as Layer, filename);
  return disk.probed ? { ...info, 'format-guessed': true } : info;
}

/** Describes one opened layer. */
export async function layerInfo(layer: Layer, filename: string): Promise<ImageInfo> {
  const info = await layer.info();
  const actualSize = await layer.file.allocatedBytes();
  const snapshots = info.snapshots ?? [];
  const { backing } = layer;
  return {
    ...(snapshots.length === 0 ? {} : { snapshots: snapshots.map(snapshotEntry) }),
    ...(backing?.format === undefined ? {} : { 'backing-filename-format': backing.format }),
    'virtual-size': layer.virtualSize,
    filename,
    ...(info.clusterSize === undefined ? {} : { 'cluster-size': info.clusterSize }),
    format: layer.format,
    ...(actualSize === undefined ? {} : { 'actual-size': actualSize }),
    ...(info.specific === undefined
      ? {}
      : { 'format-specific': { type: layer.format, data: info.specific } }),
    ...(backing === undefined
      ? {}
      : { 'full-backing-filename': besides(filename, backing.path), 'backing-filename': backing.path }),
    'dirty-flag': info.dirty,
    ...(info.encrypted ? { encrypted: true } : {}),
    ...(info.warnings === undefined ? {} : { warnings: info.warnings }),
  };
}

export function snapshotEntry(snapshot: SnapshotInfo): SnapshotEntry {
  const wholeSeconds = Math.floor(snapshot.dateMs / 1000);
  return {
    icount: snapshot.icount ?? 0,
    'vm-clock-nsec': snapshot.vmClockNs % NS_PER_SECOND,
    name: snapshot.name,
    'date-sec': wholeSeconds,
    'date-nsec': snapshot.dateNsec ?? Math.round((snapshot.dateMs - wholeSeconds * 1000) * 1_000_000),
    'vm-clock-sec': Math.floor(snapshot.vmClockNs / NS_PER_SECOND),
    id: snapshot.id,
    'vm-state-size': snapshot.vmStateSize,
  };
}

/** A stored name beside the file that stores it, joined as text: `sub/s.qcow2` and `../a` make `sub/../a`. */
function besides(filename: string, stored: string): string {
  if (isWholePath(stored)) return stored;
  if (placeOf(filename) !== undefined) return resolvePath(folderOf(filename), stored);
  return filename.slice(0, filename.lastIndexOf('/') + 1) + stored;
}
