/** A raw disk as a layer: every range lives at its own offset. */
import { VimgError } from '../../src/base/errors.ts';
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import { roundUp } from '../../src/base/size.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import {
  DATA,
  type Layer,
  type LayerInfo,
  type LayerWriter,
  type Location,
  type Placement,
  ZERO,
} from '../../src/image/layer.ts';

const SECTOR = 512;

export class RawLayer implements Layer, LayerWriter {
  readonly format = 'raw';
  readonly unit = 1;
  readonly zeroUnit = 1;
  readonly identity = undefined;
  readonly snapshotName = undefined;
  readonly backing = undefined;
  readonly file: BlockDevice;
  readonly readOnly: boolean;

  readonly #fresh: boolean;
  #changed = false;
  #closed: Promise<void> | undefined;

  /** @param fresh nobody relies on the file yet: who made it flushes it, or does without */
  constructor(file: BlockDevice, readOnly: boolean, fresh = false) {
    this.file = file;
    this.readOnly = readOnly;
    this.#fresh = fresh;
  }

  get virtualSize(): number {
    return roundUp(this.file.size, SECTOR);
  }

  get writer(): LayerWriter | undefined {
    return this.readOnly ? undefined : this;
  }

  locate(offset: number, length: number, into: Location): void {
    const stored = this.file.size - offset;
    // a file whose size is no multiple of a sector: the rest of the last sector reads as zeroes
    into.kind = stored > 0 ? DATA : ZERO;
    into.length = stored > 0 ? Math.min(length, stored) : length;
    into.device = this.file;
    into.deviceOffset = offset;
    into.reserved = false;
    into.verify = false;
  }

  decompress(): Promise<Uint8Array> {
    throw new VimgError('INVALID_FORMAT', 'A raw disk has no compressed units', { path: this.file.name });
  }

  info(): LayerInfo {
    return { dirty: false };
  }

  /** What was written is durable then. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    try {
      if (this.#changed && !this.#fresh) await this.file.flush();
    } finally {
      await this.file.close();
    }
  }

  /** A raw file has no header to keep. */
  begin(): void {
    this.#changed = true;
  }

  place(offset: number, length: number, into: Placement): void {
    into.offset = offset;
    into.length = length;
    into.device = this.file;
    into.deviceOffset = offset;
    into.fillBefore = 0;
    into.fillAfter = 0;
    into.pending = false;
  }

  placed(): void {
    // nothing is mapped
  }

  abandon(): void {
    // nothing was reserved
  }

  zero(offset: number, length: number, keepAllocated: boolean): MaybePromise<void> {
    return this.file.writeZeroes(offset, length, { keepAllocated });
  }

  flush(): MaybePromise<void> {
    return this.file.flush();
  }

  async resize(size: number): Promise<void> {
    await this.file.resize(roundUp(size, SECTOR));
  }
}
