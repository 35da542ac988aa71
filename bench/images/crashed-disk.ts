/** A vvd disk as a power cut leaves it at the worst moment: a transaction is in the journal and nothing of it in place. */
import { formats, vvdDriver } from '../../formats/index.ts';
import { PAGE_JOURNAL, PAGE_MAGIC } from '../../formats/vvd/layout.ts';
import { isVimgError, VimgError } from '../../src/base/errors.ts';
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import {
  type BlockDevice,
  FileDevice,
  ForwardingDevice,
  type WriteZeroesOptions,
} from '../../src/device/index.ts';
import { closedGate, createImage, DiskImage } from '../../src/image/index.ts';
import { KiB } from '../work.ts';

/**
 * Writes 4 KiB into each of `tables` parts of the disk that have a table page of their own, then loses power within
 * the flush. More tables than the journal holds: it is full.
 */
export async function makeCrashedDisk(path: string, virtualSize: number, tables: number): Promise<void> {
  await createImage(path, { formats, format: 'vvd', size: virtualSize });
  const device = new PowerCutDevice(await FileDevice.open(path));
  const layer = await vvdDriver.open(device, { readOnly: false, gate: closedGate });
  const disk = new DiskImage(path, [layer]);
  const data = Buffer.alloc(4 * KiB, 1);
  const step = Math.floor(virtualSize / tables / data.length) * data.length;
  try {
    for (let at = 0; at + data.length <= virtualSize && !device.isOff; at += step)
      await disk.pwrite(data, at);
    await disk.flush();
  } catch (error) {
    if (!isVimgError(error, 'IO')) throw error;
  }
  if (!device.isOff) throw new VimgError('IO', 'The disk had no transaction to lose', { path });
  await device.close();
}

/** Takes the write of one transaction and the flush after it; nothing later reaches the medium. */
class PowerCutDevice extends ForwardingDevice {
  #sawTransaction = false;
  isOff = false;

  constructor(inner: BlockDevice) {
    super(inner);
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#checkPower();
    if (isTransaction(buffer)) this.#sawTransaction = true;
    return this.inner.pwrite(buffer, offset);
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    this.#checkPower();
    return this.inner.writeZeroes(offset, length, options);
  }

  override async flush(): Promise<void> {
    this.#checkPower();
    await this.inner.flush();
    this.isOff = this.#sawTransaction;
  }

  #checkPower(): void {
    if (this.isOff) throw new VimgError('IO', 'The power is off', { path: this.name });
  }
}

/** SPEC.md, Pages: each begins with its magic, then its type. */
function isTransaction(buffer: Uint8Array): boolean {
  const page = Buffer.from(buffer.buffer, buffer.byteOffset, buffer.length);
  return page.toString('latin1', 0, 4) === PAGE_MAGIC && page.readUInt16LE(4) === PAGE_JOURNAL;
}
