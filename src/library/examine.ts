/** The library: looking at disks without changing them, and checking them. */

import { VimgError } from '../base/errors.ts';
import { openFile } from '../device/files.ts';
import type { CheckReport } from '../image/check-report.ts';
import type { DiskImage, MapExtent } from '../image/disk-image.ts';
import type { CheckOptions } from '../image/format-driver.ts';
import { closedGate } from '../image/gate-policies.ts';
import { probeFormat } from '../image/probe.ts';
import { type MapOptions, mapDisk } from '../job/disk-map.ts';
import { type DiskUsage, diskUsage as usageOf } from '../job/disk-usage.ts';
import { type ImageInfo, imageInfo as infoOf } from '../job/image-info.ts';
import type { JobOptions } from '../job/job.ts';
import { judgeImage as judge, type TrustVerdict } from '../job/trust.ts';
import { type AccessOptions, accessOf, withDisk } from './access.ts';
import { diskPath, openDisk } from './disk-path.ts';

export interface InfoOptions extends Pick<AccessOptions, 'formats'> {
  /** Default: the content tells. */
  readonly format?: string;
}

/**
 * Describes one image file, with the keys of `qemu-img info --output=json`; sizes in bytes. Opens no second file and
 * takes no lock.
 *
 * @throws VimgError `NOT_FOUND`, `INVALID_FORMAT`, `UNSUPPORTED`, `CORRUPT`
 * @example
 * const info = await imageInfo('disk.vvd');
 * console.log(info.format, info['virtual-size']);
 */
export async function imageInfo(path: string, options: InfoOptions = {}): Promise<ImageInfo> {
  const { formats } = await accessOf(options);
  const { format } = options;
  const disk = await openDisk(path, {
    formats,
    format,
    gate: closedGate,
    lock: false,
    backing: false,
    infoOnly: true,
  });
  try {
    return await infoOf(disk, path);
  } finally {
    await disk.close();
  }
}

export interface MapImageOptions extends AccessOptions, MapOptions {
  readonly format?: string;
  readonly snapshot?: string;
}

/**
 * Tells where each range of a disk is stored, over its whole chain: extents in order, without gaps; offsets and
 * lengths in bytes. Reads metadata only. A disk opened by this is closed when the loop ends, however it ends.
 *
 * @throws VimgError what `openImage` throws; `CANCELLED`
 * @example
 * for await (const { offset, length, data } of mapImage('disk.vvd')) {
 *   if (data) console.log(`${length} bytes of data at ${offset}`);
 * }
 */
export async function* mapImage(
  source: string | DiskImage,
  options: MapImageOptions = {},
): AsyncGenerator<MapExtent> {
  if (typeof source !== 'string') {
    yield* mapDisk(source, options);
    return;
  }
  const { format, snapshot } = options;
  const disk = await openDisk(source, { ...(await accessOf(options)), format, snapshot });
  try {
    yield* mapDisk(disk, options);
  } finally {
    await disk.close();
  }
}

export interface CheckImageOptions extends Pick<AccessOptions, 'formats'>, CheckOptions {
  readonly format?: string;
}

/**
 * Looks for damage and lost space in one image file. With `repair`, what can be proven is repaired; the bytes that
 * are overwritten are saved in the file `undoPath` first. With `scrub`, data is read and its checksums are verified.
 *
 * @returns counts of corruptions and leaks that remain and that were repaired, and a finding for each, with the
 *   guest range that it touches where there is one; offsets in bytes
 * @throws VimgError `UNSUPPORTED` for a format with nothing to check, and for a repair that it cannot do; `USAGE` for
 *   a repair without `undoPath`; `LOCKED` when someone writes the disk; `CANCELLED`, `IO`
 * @example
 * const report = await checkImage('disk.vvd');
 * if (report.corruptions > 0) console.error(report.findings);
 */
export async function checkImage(path: string, options: CheckImageOptions = {}): Promise<CheckReport> {
  const { formats } = await accessOf(options);
  const repairs = options.repair !== undefined;
  if (repairs && options.undoPath === undefined) {
    throw new VimgError('USAGE', 'A repair needs a file in which the overwritten bytes are saved', {
      path,
      hint: 'name one: undoPath',
    });
  }
  const file = await openFile(await diskPath(path), { readOnly: !repairs, lock: repairs ? 'write' : 'read' });
  try {
    const { format } = options;
    const driver = format === undefined ? (await probeFormat(file, formats)).driver : formats.get(format);
    if (driver.check) return await driver.check(file, options);
    throw new VimgError('UNSUPPORTED', `There is nothing to check in a ${driver.name} image`, { path });
  } finally {
    await file.close();
  }
}

export interface UsageOptions extends AccessOptions, Pick<JobOptions, 'signal'> {
  readonly format?: string;
}

/**
 * Tells what the space that a disk takes is for: live, exclusive, shared, reclaimable; bytes, and for each layer.
 *
 * @throws VimgError what `openImage` throws; `CANCELLED`
 * @example
 * const { liveBytes, sharedBytes } = await diskUsage('clone.vvd');
 */
export async function diskUsage(source: string | DiskImage, options: UsageOptions = {}): Promise<DiskUsage> {
  const { format } = options;
  const access = await accessOf(options);
  const open = (path: string): Promise<DiskImage> => openDisk(path, { ...access, format });
  return withDisk(source, open, (disk) => usageOf(disk, options));
}

/**
 * Judges an image that came from somewhere else: may it be handed to a tool that trusts what it reads? Opens nothing
 * that the image refers to, and runs every check of its format.
 *
 * @returns `accept`, or `reject` with reasons that carry stable codes
 * @throws VimgError `NOT_FOUND`, `IO`: only when the file itself cannot be read; `CANCELLED`
 * @example
 * const { verdict, reasons } = await judgeImage('upload.img');
 */
export async function judgeImage(
  path: string,
  options: Pick<AccessOptions, 'formats'> & Pick<JobOptions, 'signal'> = {},
): Promise<TrustVerdict> {
  return judge(await diskPath(path), (await accessOf(options)).formats, options);
}
