/**
 * What every function of the library takes, with the defaults filled in: the built-in formats, QEMU's locks, and a
 * gate that lets an image lead to files in its own folder and below, and nowhere else.
 */
import { formats as builtInFormats } from '../../formats/index.ts';
import { VimgError } from '../base/errors.ts';
import { parseSize } from '../base/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { fileIdentity } from '../device/files.ts';
import type { DiskImage, OpenDiskOptions } from '../image/disk-image.ts';
import { formatDoubt } from '../image/format-doubt.ts';
import type { FormatDriver, OptionSpec, OptionValues } from '../image/format-driver.ts';
import type { FormatRegistry } from '../image/registry.ts';
import { diskPaths, openDisk } from './disk-path.ts';

/** Which formats are known, and which files the headers of images may lead to. */
export interface AccessOptions {
  /** Default: the built-in formats. */
  readonly formats?: FormatRegistry;
  /**
   * Folders in which referenced files may lie, besides the folder of the image that names them; and URIs of NBD exports
   * that may be referred to.
   */
  readonly allow?: readonly string[];
  /** Any regular file may be referred to: for images that are trusted. */
  readonly allowAny?: boolean;
}

/** The same options, complete. */
export interface Access extends AccessOptions {
  readonly formats: FormatRegistry;
}

export async function accessOf(options: AccessOptions): Promise<Access> {
  return {
    formats: options.formats ?? builtInFormats,
    ...(options.allow === undefined ? {} : { allow: await diskPaths(options.allow) }),
    ...(options.allowAny === undefined ? {} : { allowAny: options.allowAny }),
  };
}

/**
 * Opens a disk for work that a wrong guess of its format would spoil (src/image/format-doubt.ts).
 *
 * @param work what is done to the disk, for the refusal: `convert`
 * @throws VimgError `USAGE` when the format is in doubt, and what `DiskImage.open` throws
 */
export async function openCertain(path: string, options: OpenDiskOptions, work: string): Promise<DiskImage> {
  const disk = await openDisk(path, options);
  const doubt = options.format === undefined ? formatDoubt(disk, options.formats) : undefined;
  if (doubt === undefined) return disk;
  await disk.close();
  throw new VimgError('USAGE', `Could not ${work} '${path}': ${doubt}`, {
    hint: "if it is a raw disk, say so: format: 'raw'",
  });
}

/** Runs `work` on a disk, opened here when a path is given; what was opened here is closed again. */
export async function withDisk<D extends BlockDevice, T>(
  source: string | D,
  open: (path: string) => Promise<DiskImage>,
  work: (disk: D | DiskImage) => Promise<T>,
): Promise<T> {
  if (typeof source !== 'string') return work(source);
  const disk = await open(source);
  try {
    return await work(disk);
  } finally {
    await disk.close();
  }
}

/** The driver for a new file: as named, else by the file's ending, else vvd. */
export function targetDriver(
  path: string,
  format: string | undefined,
  formats: FormatRegistry,
): FormatDriver {
  if (format !== undefined) return formats.get(format);
  return formats.forEnding(path) ?? formats.get('vvd');
}

/**
 * Options of a new image, judged by what its format takes. Sizes may be texts (`'1M'`).
 *
 * @throws VimgError `USAGE` for a name or a value that the format does not take
 */
export function checkOptions(driver: FormatDriver, given: OptionValues): OptionValues {
  const checked: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(given)) {
    const spec = driver.createOptions.find((option) => option.name === name);
    if (!spec) {
      const known = driver.createOptions.map((option) => option.name).join(', ');
      throw new VimgError('USAGE', `${driver.name} has no option '${name}'`, {
        hint: `${driver.name} takes: ${known}`,
      });
    }
    checked[name] = checkValue(spec, value);
  }
  return checked;
}

function checkValue(spec: OptionSpec, value: string | number | boolean): string | number | boolean {
  if (spec.type === 'size' && typeof value === 'string') return parseSize(value);
  const wanted = TYPE_OF[spec.type];
  const fits = typeof value === wanted && (wanted !== 'number' || Number.isSafeInteger(value));
  const isChoice = spec.choices === undefined || spec.choices.includes(String(value));
  if (fits && isChoice) return value;
  throw new VimgError('USAGE', `The option '${spec.name}' does not take the value '${value}'`, {
    hint: spec.choices ? `it takes ${spec.choices.join(', ')}` : `it takes a ${wanted}`,
  });
}

const TYPE_OF: Readonly<Record<OptionSpec['type'], 'number' | 'string' | 'boolean'>> = {
  size: 'number',
  number: 'number',
  string: 'string',
  choice: 'string',
  boolean: 'boolean',
};

/** @throws VimgError `EXISTS` when there is something of that name; with `hint` for where it can be replaced */
export async function refuseExisting(
  path: string,
  hint = 'choose another name, or remove the file',
): Promise<void> {
  if ((await fileIdentity(path)) === undefined) return;
  throw new VimgError('EXISTS', 'The file exists already', { op: 'create', path, hint });
}
