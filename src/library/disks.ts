/** The library: opening, creating and resizing disks. */
import { VimgError } from '../base/errors.ts';
import { folderOf, resolvePath } from '../device/file-path.ts';
import { type BackingChoice, createImage as createImageFile } from '../image/create-image.ts';
import type { DiskImage, OpenDiskOptions } from '../image/disk-image.ts';
import type { OptionValues } from '../image/format-driver.ts';
import { type AccessOptions, accessOf, checkOptions, openCertain, targetDriver } from './access.ts';
import { diskPath, openDisk } from './disk-path.ts';

/** {@link OpenDiskOptions}, with the built-in formats as default. */
export interface OpenImageOptions extends Omit<OpenDiskOptions, 'formats' | 'infoOnly' | 'fresh'> {
  readonly formats?: OpenDiskOptions['formats'];
}

/**
 * Opens a disk and the layers behind it.
 *
 * The result is a block device: `pread`, `pwrite`, `writeZeroes`, `discard`, `flush`, `status`, `resize`, `close`;
 * offsets and lengths are bytes, and need no alignment. An operation that could be done in the same tick returns
 * nothing, else a promise: `await` serves both. A completed write is seen by every later read; it is durable once a
 * `flush` that was called after it has resolved. `close` flushes too, releases the locks, and throws when the flush
 * failed; close every disk that you open.
 *
 * Read-only unless `readOnly: false` is given. The locks are those that QEMU takes, so a disk that another process
 * writes is refused.
 *
 * @param path a file or a block device of the host, or the URI of an NBD export: `nbd://HOST:PORT/NAME`,
 *   `nbd+unix:///NAME?socket=PATH`, `nbds:` and `nbds+unix:` with TLS; there are no locks over NBD
 * @throws VimgError `NOT_FOUND`; `LOCKED` with the holder's name where it is known; `INVALID_FORMAT`, `UNSUPPORTED`;
 *   `CORRUPT`; `STALE_PARENT` when a layer behind is missing or was changed; `LIMIT`; `USAGE` when a disk is to be
 *   written and raw is only a guess: give `format: 'raw'`
 * @example
 * const disk = await openImage('disk.vvd', { readOnly: false });
 * try {
 *   await disk.pwrite(Buffer.from('hello'), 1024 * 1024);
 *   await disk.flush(); // from here on a power cut loses nothing
 * } finally {
 *   await disk.close();
 * }
 */
export async function openImage(path: string, options: OpenImageOptions = {}): Promise<DiskImage> {
  const complete: OpenDiskOptions = { ...options, ...(await accessOf(options)) };
  const writes = options.readOnly === false && options.snapshot === undefined;
  return writes ? openCertain(path, complete, 'write to') : openDisk(path, complete);
}

export interface NewImageOptions extends AccessOptions {
  /** Bytes that the guest sees, rounded up to a multiple of 512. Default: the size of the backing disk. */
  readonly size?: number;
  /** Default: by the file's ending, else `vvd`. */
  readonly format?: string;
  /** Options of the format, as `vimg create -o help` lists them: `{ block_size: '1M', provisioning: 'thick' }`. */
  readonly options?: OptionValues;
  /** The disk that the new one stands on; a relative path is seen from the new image. An export: by its URI. */
  readonly backing?: BackingChoice;
  /** Replace a file of that name. Default: refuse. */
  readonly overwrite?: boolean;
}

/**
 * Creates an empty disk, which reads as zeroes, or as its backing disk. It is made under a temporary name: whoever
 * looks sees no file or a whole one. It is durable when the promise resolves.
 *
 * @throws VimgError `EXISTS`; `USAGE` without a size, or for an option that the format does not take; `UNSUPPORTED`;
 *   `NO_SPACE`; `LOCKED` when a file to be replaced is in use; `LIMIT`
 * @example
 * await createImage('disk.vvd', { size: 20 * 1024 ** 3 });
 */
export async function createImage(path: string, options: NewImageOptions): Promise<void> {
  const target = await diskPath(path);
  const { formats, ...open } = await accessOf(options);
  const driver = targetDriver(target, options.format, formats);
  const values = checkOptions(driver, options.options ?? {});
  let { backing } = options;
  if (backing) backing = { ...backing, path: await diskPath(backing.path) };
  if (backing && !backing.unchecked) {
    const place = resolvePath(folderOf(target), backing.path);
    const disk = await openCertain(place, { ...open, formats, format: backing.format }, 'build on');
    backing = { ...backing, format: disk.format };
    await disk.close();
  }
  await createImageFile(target, {
    formats,
    format: driver.name,
    size: options.size,
    options: values,
    backing,
    exclusive: !(options.overwrite ?? false),
    open,
  });
}

export interface ResizeOptions extends AccessOptions {
  readonly format?: string;
  /** Allow the disk to become smaller: what lies behind its new end is lost. */
  readonly shrink?: boolean;
}

/**
 * Sets the size that the guest sees. New space reads as zeroes, also where the layers behind hold something. Atomic:
 * after a crash the disk has the old size or the new one. Durable when the promise resolves.
 *
 * @param size bytes, a multiple of 512
 * @throws VimgError `USAGE` for a smaller size without `shrink`, or when raw is only a guess; `LOCKED`; `READ_ONLY`
 *   for a sealed disk; `UNSUPPORTED`; `LIMIT`; `NO_SPACE`
 * @example
 * await resizeImage('disk.vvd', 40 * 1024 ** 3);
 */
export async function resizeImage(path: string, size: number, options: ResizeOptions = {}): Promise<void> {
  if (!(size > 0) || !Number.isSafeInteger(size) || size % 512 !== 0) {
    throw new VimgError('USAGE', `${size} is not a size: it has to be a positive multiple of 512`, { path });
  }
  const { format } = options;
  const disk = await openCertain(path, { ...(await accessOf(options)), format, readOnly: false }, 'resize');
  try {
    if (size < disk.virtualSize && !options.shrink) {
      throw new VimgError('USAGE', `The disk has ${disk.virtualSize} bytes: ${size} would make it smaller`, {
        path,
        hint: 'shrink: true allows it; what is behind the new end is lost',
      });
    }
    await disk.resize(size);
    await disk.flush();
  } finally {
    await disk.close();
  }
}
