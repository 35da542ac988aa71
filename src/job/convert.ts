/**
 * Convert: a disk's content as a new image, or into an existing one.
 *
 * A new image is made under a temporary name and renamed when it is complete and, unless told otherwise, durable.
 * Whatever fails or is cancelled before that leaves nothing behind, and an older file of that name as it was.
 */
import { isVimgError, VimgError } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { folderOf, resolvePath } from '../device/file-path.ts';
import { fileIdentity, isSameFile, openFile } from '../device/files.ts';
import { openAsBacking } from '../image/create-image.ts';
import { DiskImage, type OpenDiskOptions } from '../image/disk-image.ts';
import type { CreateLayerOptions, FormatDriver, OptionValues } from '../image/format-driver.ts';
import { closedGate } from '../image/gate-policies.ts';
import { PendingFile } from '../image/pending-file.ts';
import type { FormatRegistry } from '../image/registry.ts';
import { lockReplaced } from '../image/replacement.ts';
import { type CopyTarget, copyDevice } from './copy.ts';
import { copyOffload } from './copy-offload.ts';
import { countDataBytes } from './device-ranges.ts';
import { EarlyWriteback } from './early-writeback.ts';
import { type JobOptions, throwIfCancelled } from './job.ts';
import { ProgressMeter } from './progress.ts';
import { UncachedFiles } from './uncached-files.ts';

export interface ConvertTarget {
  readonly path: string;
  readonly format: string;
  /** `create -o` options of the format. */
  readonly options?: OptionValues;
  /** What the new image stands on; units equal to its content are not stored. The path is relative to the target. */
  readonly backing?: { readonly path: string; readonly format?: string | undefined };
  /** The image exists already: write into it. */
  readonly existing?: boolean;
  /** The existing image is known to read as zeroes. */
  readonly zeroed?: boolean;
}

export interface ConvertOptions extends JobOptions {
  readonly formats: FormatRegistry;
  /** How the target's backing chain, and an existing target, are opened. */
  readonly access?: Pick<OpenDiskOptions, 'allow' | 'allowAny' | 'lock'>;
  readonly compress?: boolean;
  /** Shortest run of zeroes left out, in bytes. Default 4096; 0 writes everything. */
  readonly sparseSize?: number;
  /** Chunks of 512 KiB under way at once, where the disk has to be waited for. Default 4. */
  readonly parallel?: number;
  /** Write chunks as they come instead of in order. Default false. */
  readonly unordered?: boolean;
  /** Let the kernel copy data from file to file where it can; zeroes in data are not looked for there. */
  readonly offload?: boolean;
  /** Which side leaves nothing in the host's cache: it is forgotten as the copy goes on. Default neither. */
  readonly uncached?: { readonly source?: boolean; readonly target?: boolean };
  /** The image survives a power cut once the promise resolved. Default true. */
  readonly durable?: boolean;
  /** Seal the new image before it gets its name. */
  readonly seal?: boolean;
  /** Bytes a second, at most. */
  readonly rateLimit?: number;
  /** Ranges of the source that cannot be read become zeroes and are told here. Without it they end the job. */
  readonly onUnreadable?: (offset: number, length: number, error: VimgError) => void;
}

export interface ConvertResult {
  readonly virtualSize: number;
  /** Bytes that were read: all that were not known to be zero. */
  readonly dataBytes: number;
  /** Bytes that the new file takes on the host, where known. */
  readonly allocatedBytes: number | undefined;
}

const DEFAULT_PARALLEL = 4;
const DEFAULT_SPARSE_SIZE = 4096;

/**
 * Copies everything that `source` holds into the target. The source stays open.
 *
 * @throws VimgError `USAGE` when the target cannot hold it or cannot be made so, `NO_SPACE`, `IO`, `LOCKED`,
 *   `CANCELLED`
 */
export async function convertDisk(
  source: BlockDevice,
  target: ConvertTarget,
  options: ConvertOptions,
): Promise<ConvertResult> {
  const driver = options.formats.get(target.format);
  checkTarget(driver, target, options);
  await refuseSameFile(source, target.path);
  const meter = new ProgressMeter(options.onProgress);
  await countWork(source, options, meter);
  const job: Conversion = { source, target, driver, options, meter };
  return target.existing || (await fileIdentity(target.path))?.kind === 'device'
    ? convertInto(job)
    : convertToNew(job);
}

/** One call of convertDisk. */
interface Conversion {
  readonly source: BlockDevice;
  readonly target: ConvertTarget;
  readonly driver: FormatDriver;
  readonly options: ConvertOptions;
  readonly meter: ProgressMeter;
  /** What the target stands on, opened. */
  readonly backing?: DiskImage | undefined;
}

/** What was written, before the file has its name. */
interface Written {
  readonly dataBytes: number;
  readonly allocatedBytes: number | undefined;
}

function checkTarget(driver: FormatDriver, target: ConvertTarget, options: ConvertOptions): void {
  if (options.compress && !driver.can.compress) {
    throw new VimgError('USAGE', 'Compression not supported for this file format');
  }
  if (target.backing && !driver.can.backing) {
    throw new VimgError('USAGE', `Backing file not supported for file format '${driver.name}'`);
  }
  if (options.seal && (target.existing || !driver.lifecycle)) {
    throw new VimgError('USAGE', 'Only a new vvd image can be sealed', {
      hint: 'convert to vvd, or do not seal',
    });
  }
}

/** For progress: bytes that will be moved. Without a listener nothing has to be counted. */
async function countWork(source: BlockDevice, options: ConvertOptions, meter: ProgressMeter): Promise<void> {
  meter.phase('mapping');
  const everything = options.sparseSize === 0 || !meter.active;
  const total = everything
    ? source.size
    : await countDataBytes(source, () => throwIfCancelled(options.signal));
  meter.phase('copying', total);
}

async function convertToNew(job: Conversion): Promise<ConvertResult> {
  const { source, target, driver, options, meter } = job;
  const replaced = await lockReplaced(target.path, options.formats);
  const pending = await PendingFile.begin(target.path);
  try {
    const backing = target.backing && (await openBacking(target, target.backing, options));
    let written: Written;
    try {
      const make = driver.startWriter ? writeWhole : writeThroughDisk;
      written = await make(pending.path, { ...job, backing });
    } finally {
      await backing?.close();
    }
    if (options.seal) {
      meter.phase('sealing');
      await driver.lifecycle?.seal(
        pending.path,
        options.signal === undefined ? {} : { signal: options.signal },
      );
    }
    throwIfCancelled(options.signal);
    await pending.commit(options.durable ?? true);
    meter.phase('done');
    return { virtualSize: source.size, ...written };
  } catch (error) {
    throw isVimgError(error) && error.path === pending.path ? error.about(pending.target) : error;
  } finally {
    await pending.abandon();
    await replaced?.close();
  }
}

/** By the format's own writer: metadata is written once, at the end. */
async function writeWhole(path: string, job: Conversion): Promise<Written> {
  const { driver } = job;
  const file = await openFile(path, { create: 'exclusive', lock: 'write' });
  try {
    const writer = await driver.startWriter?.(file, layerOptions(job));
    if (!writer) throw new VimgError('UNSUPPORTED', `${driver.name} images cannot be written`);
    const copyTarget: CopyTarget = {
      unit: writer.unit,
      blank: true,
      write: (offset, data) => writer.write(offset, data),
      writeZeroes: (offset, length) => writer.writeZeroes(offset, length),
      ...(writer.writeCompressed === undefined
        ? {}
        : { writeCompressed: (offset, unit) => writer.writeCompressed?.(offset, unit) ?? Promise.resolve() }),
    };
    const dataBytes = await copyThenFlush(copyTarget, file, job, () => writer.finish());
    return { dataBytes, allocatedBytes: await file.allocatedBytes() };
  } finally {
    await file.close();
  }
}

/** Through an opened disk, as a guest would write it. */
async function writeThroughDisk(path: string, job: Conversion): Promise<Written> {
  const { driver, options } = job;
  await createEmpty(path, job);
  const disk = await DiskImage.open(path, {
    ...options.access,
    formats: options.formats,
    format: driver.name,
    readOnly: false,
    fresh: true,
  });
  try {
    const copyTarget = diskTarget(disk, true, options);
    const flush = (): MaybePromise<void> => flushIfDurable(disk, options);
    const dataBytes = await copyThenFlush(copyTarget, disk.top.file, job, flush, disk);
    const allocatedBytes = await disk.allocatedBytes();
    await disk.close();
    return { dataBytes, allocatedBytes };
  } catch (error) {
    await disk.close().catch(() => undefined); // the file is thrown away; the first failure is the one to tell
    throw error;
  }
}

/**
 * Copies, lets `finish` write the metadata, and flushes `file` when the image is to be durable.
 *
 * @param disk the target, where it is an open disk
 * @returns bytes that were read
 */
async function copyThenFlush(
  target: CopyTarget,
  file: BlockDevice,
  job: Conversion,
  finish: () => MaybePromise<void>,
  disk?: DiskImage,
): Promise<number> {
  const { source, options, meter, backing } = job;
  const durable = options.durable ?? true;
  const writeback = durable ? new EarlyWriteback(file) : undefined;
  const uncached = [
    ...(options.uncached?.source ? [new UncachedFiles(source)] : []),
    ...(options.uncached?.target ? [new UncachedFiles(file)] : []),
  ];
  try {
    const dataBytes = await copyDevice(source, target, {
      meter,
      signal: options.signal,
      sparseSize: options.sparseSize ?? DEFAULT_SPARSE_SIZE,
      compress: options.compress ?? false,
      parallel: options.parallel ?? DEFAULT_PARALLEL,
      unordered: options.unordered ?? false,
      backing,
      rateLimit: options.rateLimit,
      offload: options.offload && disk ? copyOffload(source, disk) : undefined,
      onUnreadable: options.onUnreadable,
      onWritten: (bytes) => {
        writeback?.wrote(bytes);
        for (const files of uncached) files.moved(bytes);
      },
    });
    if (durable) meter.phase('flushing');
    await finish();
    if (durable) await file.flush();
    for (const files of uncached) files.forget();
    return dataBytes;
  } finally {
    await writeback?.settle();
  }
}

async function createEmpty(path: string, job: Conversion): Promise<void> {
  const file = await openFile(path, { create: 'exclusive', lock: 'write' });
  try {
    await job.driver.create?.(file, layerOptions(job));
  } finally {
    await file.close();
  }
}

function layerOptions({ source, target, backing }: Conversion): CreateLayerOptions {
  return {
    virtualSize: source.size,
    options: target.options ?? {},
    gate: closedGate,
    ...(target.backing && backing
      ? { backing: { path: target.backing.path, format: backing.format, layer: backing.top } }
      : {}),
  };
}

/** Into an image, or a block device, that is there already; locked whatever the sources are. */
async function convertInto(job: Conversion): Promise<ConvertResult> {
  const { source, target, driver, options, meter } = job;
  const disk = await DiskImage.open(target.path, {
    ...options.access,
    lock: true,
    formats: options.formats,
    format: driver.name,
    readOnly: false,
  });
  try {
    if (disk.virtualSize < source.size) {
      throw new VimgError('USAGE', 'output file is smaller than input file', {
        hint: `the source has ${source.size} bytes, the target ${disk.virtualSize}: resize it first`,
      });
    }
    const copyTarget = diskTarget(disk, target.zeroed ?? false, options);
    const flush = (): MaybePromise<void> => flushIfDurable(disk, options);
    const dataBytes = await copyThenFlush(copyTarget, disk.top.file, job, flush, disk);
    meter.phase('done');
    return { virtualSize: source.size, dataBytes, allocatedBytes: await disk.allocatedBytes() };
  } finally {
    await disk.close();
  }
}

function flushIfDurable(disk: DiskImage, options: ConvertOptions): MaybePromise<void> {
  if (options.durable ?? true) return disk.flush();
}

function diskTarget(disk: DiskImage, blank: boolean, options: ConvertOptions): CopyTarget {
  return {
    unit: options.compress ? disk.top.unit : 1,
    blank,
    write: (offset, data) => disk.pwrite(data, offset),
    writeZeroes: (offset, length) => disk.writeZeroes(offset, length),
    writeCompressed: (offset, unit) => disk.writeCompressed(offset, unit),
  };
}

async function openBacking(
  target: ConvertTarget,
  backing: { readonly path: string; readonly format?: string | undefined },
  options: ConvertOptions,
): Promise<DiskImage> {
  const path = resolvePath(folderOf(target.path), backing.path);
  return openAsBacking(path, { formats: options.formats, format: backing.format, ...options.access });
}

/**
 * Writing a disk into itself would read what was just written. `convertDisk` asks this of a disk image; who joins
 * several asks it of each. @throws VimgError `USAGE`
 */
export async function refuseSameFile(source: BlockDevice, path: string): Promise<void> {
  for (const name of namesOf(source)) {
    if (await isSameFile(name, path)) {
      throw new VimgError('USAGE', `The target '${path}' is also read from`, {
        hint: 'give the target another name',
      });
    }
  }
}

function namesOf(source: BlockDevice): string[] {
  return source instanceof DiskImage ? source.layers.map((layer) => layer.file.name) : [];
}
