/** Opening the disks that a command line names, with its rules for guessed formats and for files behind a disk. */
import { existsSync } from 'node:fs';
import { formats } from '../../formats/index.ts';
import { VimgError } from '../base/errors.ts';
import { folderOf } from '../device/file-path.ts';
import { DiskImage, type OpenDiskOptions } from '../image/disk-image.ts';
import { formatDoubt } from '../image/format-doubt.ts';
import type { FormatDriver } from '../image/format-driver.ts';
import { type DiskReference, diskReference } from './disk-reference.ts';
import type { Context } from './verb.ts';

/** Options that many verbs share, by the names that their option rows produce. */
export interface AccessOptions {
  readonly format?: string;
  readonly forceShare?: boolean;
  readonly allow?: readonly string[];
  readonly object?: readonly string[];
  readonly imageOpts?: boolean;
}

export interface OpenRequest {
  readonly format?: string | undefined;
  readonly readOnly?: boolean;
  readonly snapshot?: string | undefined;
  readonly backing?: boolean;
  readonly infoOnly?: boolean;
  /** Small transfers may block the thread. Default true; a server says false. */
  readonly blocking?: boolean;
  /** What is done to a raw disk, for the refusal when raw is only a guess. */
  readonly trusts?: string;
}

/** Folders that headers may point into, besides the image's own: what the user named. */
export interface Access {
  readonly allow: readonly string[];
  readonly allowAny: boolean;
  readonly lock: boolean;
}

/**
 * Which files the headers of images may lead to: their own folder and below, the folders of all disks that this command
 * line reads, `--allow` and `$VIMG_ALLOW`. Called as qemu-img: any regular file, as there.
 *
 * @param named the disks that are read; a file that is only made gives no right to its folder
 */
export function accessOf(context: Context, options: AccessOptions, named: readonly string[]): Access {
  refuseUnsupported(options);
  const { VIMG_ALLOW = '' } = context.environment;
  const fromEnvironment = VIMG_ALLOW.split(':').filter((folder) => folder !== '' && existsSync(folder));
  return {
    allow: [...named.map((name) => folderOf(name)), ...(options.allow ?? []), ...fromEnvironment],
    allowAny: context.likeQemuImg,
    lock: options.forceShare !== true,
  };
}

/**
 * Opens the disk that a name means.
 *
 * @throws VimgError what `DiskImage.open` throws; `USAGE` when the format is a guess and the work needs certainty
 */
export async function openDisk(
  context: Context,
  name: string,
  access: Access,
  request: OpenRequest = {},
): Promise<DiskImage> {
  const reference: DiskReference = await diskReference(name);
  const format = knownFormat(request.format, reference.path);
  const readOnly = request.readOnly ?? true;
  const options: OpenDiskOptions = {
    formats,
    format,
    readOnly,
    allow: access.allow,
    allowAny: access.allowAny,
    lock: access.lock,
    snapshot: request.snapshot ?? reference.snapshot,
    backing: request.backing ?? true,
    infoOnly: request.infoOnly ?? false,
    blocking: request.blocking ?? true,
  };
  const disk = await DiskImage.open(reference.path, options);
  try {
    if (format === undefined) distrustGuess(context, disk, request, readOnly);
    return disk;
  } catch (error) {
    await disk.close();
    throw error;
  }
}

/** The driver that `-f` names. @throws VimgError `USAGE` in the words of qemu-img */
export function knownFormat(format: string | undefined, path: string): string | undefined {
  if (format === undefined || formats.list().some((driver) => driver.name === format)) return format;
  throw new VimgError('USAGE', `Could not open '${path}': Unknown driver '${format}'`, {
    hint: knownFormatsHint(),
  });
}

/** The driver for a new file: as named, else by the file's ending, else vvd (qemu-img: raw). */
export function targetDriver(context: Context, format: string | undefined, path: string): FormatDriver {
  if (format !== undefined) return formats.get(format);
  if (context.likeQemuImg) return formats.get('raw');
  return formats.forEnding(path) ?? formats.get('vvd');
}

function knownFormatsHint(): string {
  return `known formats: ${formats
    .list()
    .map((driver) => driver.name)
    .join(', ')}`;
}

/** Where a wrong guess would cost data, the user has to say which format it is. qemu-img only warns. */
function distrustGuess(context: Context, disk: DiskImage, request: OpenRequest, readOnly: boolean): void {
  if (context.likeQemuImg) {
    if (disk.probed && !readOnly) warnAboutGuess(context, disk.path);
    return;
  }
  const doubt = request.trusts === undefined ? undefined : formatDoubt(disk, formats);
  if (doubt === undefined) return;
  throw new VimgError('USAGE', `Could not ${request.trusts} '${disk.path}': ${doubt}`, {
    hint: disk.probed
      ? 'no format claims the content; if it is a raw disk, say so with -f raw'
      : `say which it is: -f raw or -f ${disk.format}`,
  });
}

function warnAboutGuess(context: Context, path: string): void {
  context.terminal.noteRaw(
    `WARNING: Image format was not specified for '${path}' and probing guessed raw.\n` +
      '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
      "         Specify the 'raw' format explicitly to remove the restrictions.\n",
  );
}

function refuseUnsupported(options: AccessOptions): void {
  if (options.imageOpts === true) {
    throw new VimgError('UNSUPPORTED', '--image-opts is not supported', {
      hint: 'name the file, and its format with -f',
    });
  }
  if (options.object !== undefined && options.object.length > 0) {
    throw new VimgError('UNSUPPORTED', '--object is not supported: there is no encryption in this release');
  }
}
