/**
 * Creating an image file: under a temporary name, made durable, then renamed. Whoever looks sees no image or a whole
 * one.
 */
import { fromSystemError, VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { folderOf, isWholePath, joinPath, relativePath } from '../device/file-path.ts';
import { fileExists, fileIdentity, openFile } from '../device/files.ts';
import { DiskImage } from './disk-image.ts';
import type { FormatDriver, OptionValues } from './format-driver.ts';
import { closedGate } from './gate-policies.ts';
import type { OpenDiskOptions } from './open-chain.ts';
import { PendingFile } from './pending-file.ts';
import type { FormatRegistry } from './registry.ts';
import { lockReplaced } from './replacement.ts';

export interface CreateImageOptions {
  readonly formats: FormatRegistry;
  readonly format: string;
  /** Guest bytes; without it the size of the backing file. */
  readonly size?: number | undefined;
  readonly options?: OptionValues;
  readonly backing?: BackingChoice | undefined;
  /** Refuse when the file exists. Default: replace it. */
  readonly exclusive?: boolean;
  /** How the backing file is opened. */
  readonly open?: Omit<OpenDiskOptions, 'formats' | 'format' | 'readOnly'>;
}

export interface BackingChoice {
  /** Stored as given; relative to the folder of the new image. */
  readonly path: string;
  readonly format?: string | undefined;
  /** Do not look at it: `create -u`. */
  readonly unchecked?: boolean;
}

const SECTOR = 512;

/**
 * Creates an empty image; durable when this returns.
 *
 * @throws VimgError `USAGE` without a size, `EXISTS` (always, when the file is there and other disks need it),
 *   `UNSUPPORTED`, `NO_SPACE`, `LOCKED`, `IO`
 */
export async function createImage(path: string, options: CreateImageOptions): Promise<void> {
  const driver = options.formats.get(options.format);
  if (!driver.create) throw new VimgError('UNSUPPORTED', `${driver.name} images cannot be created`, { path });
  const backing = await openBacking(path, options, driver);
  try {
    const size = options.size ?? backing?.size;
    if (size === undefined) throw new VimgError('USAGE', 'Image creation needs a size parameter', { path });
    await writeAtomically(path, options.formats, options.exclusive ?? false, async (file) => {
      await driver.create?.(file, {
        virtualSize: Math.ceil(size / SECTOR) * SECTOR,
        options: options.options ?? {},
        gate: closedGate,
        ...(options.backing
          ? {
              backing: {
                path: options.backing.path,
                format: options.backing.format ?? backing?.format,
                layer: backing?.top,
              },
            }
          : {}),
      });
    });
  } finally {
    await backing?.close();
  }
}

async function openBacking(
  path: string,
  options: CreateImageOptions,
  driver: FormatDriver,
): Promise<DiskImage | undefined> {
  const { backing } = options;
  if (!backing) return undefined;
  if (!driver.can.backing) {
    throw new VimgError('UNSUPPORTED', `${driver.name} images cannot have a backing file`, { path });
  }
  if (backing.unchecked) return undefined;
  const place = isWholePath(backing.path) ? backing.path : joinPath(folderOf(path), backing.path);
  return openAsBacking(place, { ...options.open, formats: options.formats, format: backing.format });
}

/**
 * Opens a disk that another is to stand on.
 *
 * @throws VimgError what `DiskImage.open` throws; `LIMIT` when the chain would be deeper than can be opened
 */
export async function openAsBacking(path: string, options: OpenDiskOptions): Promise<DiskImage> {
  const disk = await DiskImage.open(path, options);
  if (disk.layers.length < LIMITS.chainDepth) return disk;
  await disk.close();
  throw new VimgError('LIMIT', `The chain has ${LIMITS.chainDepth} layers already`, {
    op: 'use as a backing file',
    path,
    hint: 'delete snapshots of it first, or copy it: vimg clone --full',
  });
}

/**
 * Runs `write` on a new file and puts it, durable, under `path`. A block device is written in place. When `write`
 * fails nothing of the new file stays.
 */
async function writeAtomically(
  path: string,
  formats: FormatRegistry,
  exclusive: boolean,
  write: (file: BlockDevice) => Promise<void>,
): Promise<void> {
  const found = await fileIdentity(path);
  if (found && exclusive) throw new VimgError('EXISTS', 'The file exists already', { op: 'create', path });
  if (found && found.kind !== 'file') {
    await writeInPlace(path, write);
    return;
  }
  await (await lockReplaced(path, formats))?.close();
  const pending = await PendingFile.begin(path);
  try {
    const file = await openFile(pending.path, { readOnly: false, create: 'exclusive', lock: 'write' });
    try {
      await write(file);
      await file.flush();
      if (exclusive && (await fileExists(path)))
        throw new VimgError('EXISTS', 'The file exists already', { op: 'create', path });
      await pending.commit(true);
    } finally {
      await file.close();
    }
  } catch (error) {
    const failure = fromSystemError(error, { op: 'create', path });
    throw failure.path === pending.path ? failure.about(path) : failure;
  } finally {
    await pending.abandon();
  }
}

async function writeInPlace(path: string, write: (file: BlockDevice) => Promise<void>): Promise<void> {
  const file = await openFile(path, { readOnly: false, lock: 'write' });
  try {
    await write(file);
    await file.flush();
  } finally {
    await file.close();
  }
}

/** How a file is named from the folder of another: what a header stores. */
export function storedReference(target: string, from: string): string {
  const path = relativePath(folderOf(from), target);
  return path === '' ? target : path;
}
