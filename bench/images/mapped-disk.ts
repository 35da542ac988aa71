/**
 * Large vvd disks with every block of a range mapped, whose data takes no host space: a device under the driver turns
 * the writes of data into holes of the file. Metadata is written as ever.
 */
import { vvdDriver } from '../../formats/index.ts';
import { VimgError } from '../../src/base/errors.ts';
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import {
  type BlockDevice,
  FileDevice,
  ForwardingDevice,
  type WriteZeroesOptions,
} from '../../src/device/index.ts';
import { closedGate, DiskImage } from '../../src/image/index.ts';
import { GiB, KiB, MiB } from '../work.ts';

export interface MappedDisk {
  readonly virtualSize: number;
  /** Guest bytes from the start on that are mapped. */
  readonly mapped: number;
  /** As data; or as reserved space that reads as zeroes, so that a copy walks the map without moving bytes. */
  readonly as: 'data' | 'reserved';
}

/** Blocks that one table page maps, of the default block size. */
const TABLE_SPAN = 252 * 128 * KiB;
const GROW_BY = 16 * GiB;

export async function makeMappedDisk(path: string, disk: MappedDisk): Promise<void> {
  const data = new Uint8Array(TABLE_SPAN);
  const file = new HoleDevice(await FileDevice.open(path, { create: 'exclusive' }), data.buffer);
  await vvdDriver.create?.(file, { virtualSize: disk.virtualSize, options: {}, gate: closedGate });
  const layer = await vvdDriver.open(file, { readOnly: false, gate: closedGate, fresh: true });
  const image = new DiskImage(path, [layer]);
  for (let at = 0; at < disk.mapped; at += TABLE_SPAN) {
    const length = Math.min(TABLE_SPAN, disk.mapped - at);
    if (disk.as === 'data') await image.pwrite(data.subarray(0, length), at);
    else await image.writeZeroes(at, length, { keepAllocated: true });
  }
  await image.close();
}

/** The file system refuses so large a file. */
export async function canHold(path: string, size: number): Promise<boolean> {
  const file = await FileDevice.open(path, { create: 'exclusive' });
  try {
    await file.resize(size);
    return true;
  } catch (error) {
    if (error instanceof VimgError) return false;
    throw error;
  } finally {
    await file.resize(0);
    await file.close();
  }
}

/** Data only makes the file longer: `content` is the buffer that all data is written from. */
class HoleDevice extends ForwardingDevice {
  readonly #content: ArrayBufferLike;
  /** Length of the file that is really needed: it grows in large steps. */
  #end = 0;

  constructor(inner: BlockDevice, content: ArrayBufferLike) {
    super(inner);
    this.#content = content;
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    const end = offset + buffer.length;
    if (buffer.buffer === this.#content) return this.#grow(end);
    this.#end = Math.max(this.#end, end);
    return this.inner.pwrite(buffer, offset);
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    if (length < MiB / 16 || !options?.keepAllocated) return this.inner.writeZeroes(offset, length, options);
    return this.#grow(offset + length);
  }

  #grow(end: number): MaybePromise<void> {
    this.#end = Math.max(this.#end, end);
    if (end > this.inner.size) return this.inner.resize(end + GROW_BY);
  }

  override async close(): Promise<void> {
    await this.inner.resize(this.#end);
    await this.inner.close();
  }
}
