/** The library: converting, comparing and measuring disks. */
import type { BlockDevice } from '../device/block-device.ts';
import { JoinedDevice } from '../device/joined-device.ts';
import type { DiskImage } from '../image/disk-image.ts';
import type { OptionValues } from '../image/format-driver.ts';
import { type CompareOptions, type CompareResult, compareDisks } from '../job/compare.ts';
import { type ConvertOptions, type ConvertResult, convertDisk } from '../job/convert.ts';
import type { JobOptions } from '../job/job.ts';
import { type Measurement, measureImage as measureFor } from '../job/measure.ts';
import {
  type Access,
  type AccessOptions,
  accessOf,
  checkOptions,
  openCertain,
  refuseExisting,
  targetDriver,
  withDisk,
} from './access.ts';
import { diskPath, openDisk } from './disk-path.ts';

/** A disk named by its path or the URI of an NBD export, or one that is open already (it stays open). */
export type DiskSource = string | BlockDevice;

export interface ConvertImageOptions extends AccessOptions, Omit<ConvertOptions, 'formats' | 'access'> {
  /** Format of the target. Default: by its ending, else `vvd`. */
  readonly format?: string;
  /** Format of the sources. Default: their content tells. */
  readonly sourceFormat?: string;
  /** Convert this snapshot of the source. */
  readonly snapshot?: string;
  /** Options of the target's format. */
  readonly options?: OptionValues;
  /** What the new image stands on, as seen from it; units equal to its content are not stored. */
  readonly backing?: { readonly path: string; readonly format?: string };
  /** Replace a file of the target's name. Default: refuse. */
  readonly overwrite?: boolean;
  /** The target exists and is as large: write into it instead of making a new file. */
  readonly existing?: boolean;
  /** The existing target is known to read as zeroes. */
  readonly zeroed?: boolean;
}

/**
 * Copies what a disk holds into a new image of any format. Holes and zeroes are not copied: cost follows the data.
 *
 * The target gets its name when it is complete and durable (`durable: false` does not wait for that); a failure or a
 * cancellation before leaves nothing behind, and an older file of that name as it was. The source is only read. With
 * `seal` the new disk (vvd) is sealed before it gets its name.
 *
 * @param source a path or NBD URI, an open disk, or several that are joined one behind the other
 * @param target path of the new image; or, with `existing`, of an image, or the URI of an export
 * @returns bytes: the size that the guest sees, what was read, and what the target takes on the host
 * @throws VimgError `EXISTS` without `overwrite`; `USAGE` when the target cannot hold the source, for an option that
 *   the format does not take, and when raw is only a guess; `CANCELLED` after `signal` was aborted; `NO_SPACE`,
 *   `LOCKED`, `CORRUPT`, `STALE_PARENT`, `IO`
 * @example
 * await convertImage('cloud.qcow2', 'disk.vvd', {
 *   onProgress: ({ phase, fraction }) => console.error(phase, Math.round(fraction * 100)),
 * });
 */
export async function convertImage(
  source: DiskSource | readonly DiskSource[],
  target: string,
  options: ConvertImageOptions = {},
): Promise<ConvertResult> {
  const { existing = false, zeroed = false, backing, overwrite } = options;
  const path = await diskPath(target);
  if (!existing && !overwrite) await refuseExisting(path, 'overwrite: true replaces it');
  const access = await accessOf(options);
  const driver = targetDriver(path, options.format, access.formats);
  const values = checkOptions(driver, options.options ?? {});
  const sources = Array.isArray(source) ? (source as readonly DiskSource[]) : [source as DiskSource];
  return withAll(sources, access, options, async (disk) =>
    convertDisk(
      disk,
      {
        path,
        format: driver.name,
        options: values,
        existing,
        zeroed,
        ...(backing === undefined ? {} : { backing: { ...backing, path: await diskPath(backing.path) } }),
      },
      { ...options, formats: access.formats, access },
    ),
  );
}

async function withAll<T>(
  sources: readonly DiskSource[],
  access: Access,
  options: ConvertImageOptions,
  work: (disk: BlockDevice) => Promise<T>,
): Promise<T> {
  const { sourceFormat: format, snapshot } = options;
  const opened: DiskImage[] = [];
  try {
    const disks: BlockDevice[] = [];
    for (const source of sources) {
      if (typeof source !== 'string') {
        disks.push(source);
        continue;
      }
      const disk = await openCertain(source, { ...access, format, snapshot }, 'convert');
      opened.push(disk);
      disks.push(disk);
    }
    const [only] = disks;
    return await work(only !== undefined && disks.length === 1 ? only : new JoinedDevice(disks));
  } finally {
    for (const disk of opened) await disk.close();
  }
}

export interface CompareImagesOptions extends AccessOptions, CompareOptions {
  /** Formats of the two. Default: their content tells. */
  readonly format?: string;
  readonly secondFormat?: string;
}

/**
 * Tells whether two disks hold the same for a guest. When one is longer, the rest of it has to be zero (unless
 * `strict`). What both share, and what is zero in both, is not read.
 *
 * @returns `identical`, else where and how they first differ; `offset` in bytes, to the sector
 * @throws VimgError what opening and reading throw; `CANCELLED`
 * @example
 * const { identical } = await compareImages('disk.vvd', 'disk.qcow2');
 */
export async function compareImages(
  first: DiskSource,
  second: DiskSource,
  options: CompareImagesOptions = {},
): Promise<CompareResult> {
  const access = await accessOf(options);
  const open = (path: string, format: string | undefined): Promise<DiskImage> =>
    openDisk(path, { ...access, format });
  return withDisk(
    first,
    (path) => open(path, options.format),
    (one) =>
      withDisk(
        second,
        (path) => open(path, options.secondFormat),
        (other) => compareDisks(one, other, options),
      ),
  );
}

export interface MeasureOptions extends AccessOptions, JobOptions {
  /** Format of the image to be made. Default `raw`. */
  readonly format?: string;
  /** Its options. */
  readonly options?: OptionValues;
  /** Format of the source. Default: its content tells. */
  readonly sourceFormat?: string;
  readonly snapshot?: string;
}

/**
 * Tells how many bytes a converted disk will need, before it is made.
 *
 * @param source a disk, or the size in bytes of an empty one
 * @throws VimgError `UNSUPPORTED` when the format cannot tell; `USAGE` for an option that it does not take
 * @example
 * const { required, fullyAllocated } = await measureImage('disk.vvd', { format: 'qcow2' });
 */
export async function measureImage(
  source: DiskSource | number,
  options: MeasureOptions = {},
): Promise<Measurement> {
  const access = await accessOf(options);
  const driver = access.formats.get(options.format ?? 'raw');
  const values = checkOptions(driver, options.options ?? {});
  if (typeof source === 'number') return measureFor(source, driver, values);
  const { sourceFormat: format, snapshot } = options;
  return withDisk(
    source,
    (path) => openDisk(path, { ...access, format, snapshot }),
    (disk) => measureFor(disk, driver, values, options),
  );
}
