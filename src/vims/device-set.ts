/**
 * The devices of a volume, in their order: where blocks and clusters are, and what is under way on them.
 *
 * Invariant: a cluster that was freed is given away again only after everything that was under way when its freeing
 * became durable has ended (`drained`): a late read or write of the old owner never meets the new one's data.
 */
import { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { BLOCK, blockOnDevice, CLUSTER, clusterOffset, deviceOfBlock, deviceOfCluster } from './geometry.ts';

/** Transfers that began in the same span of time. */
interface Span {
  underWay: number;
  ended: (() => void) | undefined;
}

export class DeviceSet {
  readonly #devices: BlockDevice[];
  #span: Span = { underWay: 0, ended: undefined };
  /** Ends when the transfers of all earlier spans have. */
  #older: Promise<void> = Promise.resolve();

  constructor(devices: readonly BlockDevice[]) {
    this.#devices = [...devices];
  }

  get count(): number {
    return this.#devices.length;
  }

  get readOnly(): boolean {
    return this.#devices.some((device) => device.readOnly);
  }

  add(device: BlockDevice): void {
    this.#devices.push(device);
  }

  /** @throws VimgError `CORRUPT` for a device that the volume does not have */
  device(index: number): BlockDevice {
    const device = this.#devices[index];
    if (device) return device;
    throw new VimgError('CORRUPT', `An address leads to device ${index}, the volume has ${this.count}`);
  }

  readBlock(bytes: Uint8Array, address: number): MaybePromise<void> {
    return this.device(deviceOfBlock(address)).pread(bytes, blockOnDevice(address) * BLOCK);
  }

  /** Blocks that follow each other on one device. */
  writeBlocks(bytes: Uint8Array, address: number): MaybePromise<void> {
    return this.device(deviceOfBlock(address)).pwrite(bytes, blockOnDevice(address) * BLOCK);
  }

  /** Reads `inside` bytes from the start of a cluster; may go on into the clusters behind it. */
  read(buffer: Uint8Array, cluster: number, inside: number): MaybePromise<void> {
    const device = this.device(deviceOfCluster(cluster));
    return this.#counted(() => device.pread(buffer, clusterOffset(cluster) + inside));
  }

  write(buffer: Uint8Array, cluster: number, inside: number): MaybePromise<void> {
    const device = this.device(deviceOfCluster(cluster));
    return this.#counted(() => device.pwrite(buffer, clusterOffset(cluster) + inside));
  }

  zero(cluster: number, inside: number, length: number): MaybePromise<void> {
    const device = this.device(deviceOfCluster(cluster));
    const options = { keepAllocated: true };
    return this.#counted(() => device.writeZeroes(clusterOffset(cluster) + inside, length, options));
  }

  /** Tells a device that a cluster is not needed. What it makes of that is its own affair. */
  discard(cluster: number): MaybePromise<void> {
    const device = this.device(deviceOfCluster(cluster));
    if (device.limits.discardGranularity > 0) return device.discard(clusterOffset(cluster), CLUSTER);
  }

  /** Makes every completed write durable, on all devices. */
  flush(): MaybePromise<void> {
    if (this.#devices.length === 1) return this.device(0).flush();
    return this.#flushAll();
  }

  async #flushAll(): Promise<void> {
    const flushes = await Promise.allSettled(this.#devices.map(async (device) => device.flush()));
    for (const flush of flushes) if (flush.status === 'rejected') throw flush.reason;
  }

  /** Ends when every transfer that is under way now has ended. */
  async drained(): Promise<void> {
    const span = this.#span;
    if (span.underWay > 0) {
      this.#span = { underWay: 0, ended: undefined };
      const ended = new Promise<void>((resolve) => {
        span.ended = resolve;
      });
      this.#older = this.#older.then(() => ended);
    }
    await this.#older;
  }

  /** A transfer that cannot even begin ends like one that fails later: others of the same request may be under way. */
  #counted(transfer: () => MaybePromise<void>): MaybePromise<void> {
    let work: MaybePromise<void>;
    try {
      work = transfer();
    } catch (error) {
      return Promise.reject(error);
    }
    if (!isPromise(work)) return;
    const span = this.#span;
    span.underWay++;
    return work.finally(() => {
      if (--span.underWay === 0) span.ended?.();
    });
  }
}
