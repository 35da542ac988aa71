/**
 * A device in memory, for tests, simulations and small temporary images.
 *
 * Content is kept in chunks that exist only where something was written, so a device of 64 TiB with little data
 * costs little. Every operation completes in the same tick.
 *
 * Invariants: a chunk that is absent reads as zeroes; bytes of the last chunk behind the end are zero; a chunk named
 * in `#shared` may be held by a fork and is copied before it is changed.
 */
import { VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from './block-device.ts';
import { checkDiscard, checkInside, checkResize, checkSize, checkWritable } from './range-check.ts';

const CHUNK = 16 * 1024;

export interface MemoryDeviceOptions {
  readonly name?: string;
  /** Whether a write past the end grows the device. Default true. */
  readonly growable?: boolean;
  readonly readOnly?: boolean;
}

export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  #size: number;
  #chunks = new Map<number, Uint8Array>();
  #shared = new Set<number>();

  private constructor(size: number, options: MemoryDeviceOptions) {
    this.name = options.name ?? 'memory';
    this.limits = { alignment: 1, discardGranularity: CHUNK, growable: options.growable ?? true };
    this.readOnly = options.readOnly ?? false;
    this.#size = size;
  }

  /** An empty device of `size` bytes, all zero. */
  static create(size: number, options: MemoryDeviceOptions = {}): MemoryDevice {
    checkSize(options.name ?? 'memory', size);
    return new MemoryDevice(size, options);
  }

  /** A device that holds a copy of `bytes`. */
  static from(bytes: Uint8Array, options: MemoryDeviceOptions = {}): MemoryDevice {
    const device = new MemoryDevice(bytes.length, options);
    device.#write(bytes, 0);
    return device;
  }

  get size(): number {
    return this.#size;
  }

  pread(buffer: Uint8Array, offset: number): void {
    checkInside(this, 'read', offset, buffer.length);
    for (let done = 0; done < buffer.length; ) {
      const at = offset + done;
      const index = Math.floor(at / CHUNK);
      const within = at - index * CHUNK;
      const length = Math.min(CHUNK - within, buffer.length - done);
      const chunk = this.#chunks.get(index);
      if (chunk === undefined) buffer.fill(0, done, done + length);
      else buffer.set(chunk.subarray(within, within + length), done);
      done += length;
    }
  }

  pwrite(buffer: Uint8Array, offset: number): void {
    checkWritable(this, 'write', offset, buffer.length);
    this.#write(buffer, offset);
  }

  #write(buffer: Uint8Array, offset: number): void {
    for (let done = 0; done < buffer.length; ) {
      const at = offset + done;
      const index = Math.floor(at / CHUNK);
      const within = at - index * CHUNK;
      const length = Math.min(CHUNK - within, buffer.length - done);
      this.#own(index).set(buffer.subarray(done, done + length), within);
      done += length;
    }
    if (buffer.length > 0) this.#size = Math.max(this.#size, offset + buffer.length);
  }

  /** The chunk, made if it is absent, and copied if a fork holds it too. */
  #own(index: number): Uint8Array {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = new Uint8Array(CHUNK);
      this.#chunks.set(index, chunk);
    } else if (this.#shared.delete(index)) {
      chunk = chunk.slice();
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): void {
    checkWritable(this, 'write zeroes', offset, length);
    if (length === 0) return;
    const end = offset + length;
    for (const index of this.#chunksIn(offset, end)) {
      const from = Math.max(offset - index * CHUNK, 0);
      const to = Math.min(end - index * CHUNK, CHUNK);
      if (from === 0 && to === CHUNK && !options.keepAllocated) this.#drop(index);
      else this.#own(index).fill(0, from, to);
    }
    this.#size = Math.max(this.#size, end);
  }

  discard(offset: number, length: number): void {
    checkDiscard(this, offset, length);
    for (const index of this.#chunksIn(offset, offset + length)) {
      if (index * CHUNK >= offset && (index + 1) * CHUNK <= offset + length) this.#drop(index);
    }
  }

  flush(): void {
    // Memory is as durable as it gets.
  }

  status(offset: number, length: number): Extent {
    checkInside(this, 'status', offset, length);
    const first = Math.floor(offset / CHUNK);
    const end = offset + length;
    const allocated = this.#chunks.has(first);
    let next: number;
    if (allocated) {
      next = first + 1;
      while (next * CHUNK < end && this.#chunks.has(next)) next++;
    } else {
      next = Number.POSITIVE_INFINITY;
      for (const index of this.#chunksIn(offset, end)) next = Math.min(next, index);
    }
    return { offset, length: Math.min(end, next * CHUNK) - offset, zero: !allocated, allocated };
  }

  resize(size: number): void {
    checkResize(this, size, true);
    if (size < this.#size) {
      for (const index of this.#chunksIn(size, this.#size)) {
        if (index * CHUNK >= size) this.#drop(index);
        else this.#own(index).fill(0, size - index * CHUNK);
      }
    }
    this.#size = size;
  }

  allocatedBytes(): number {
    return this.#chunks.size * CHUNK;
  }

  /** Does nothing: the content stays, so that a test can open the same medium again. */
  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** A copy of the whole content. @throws VimgError `LIMIT` for a device too large to copy */
  snapshot(): Uint8Array {
    if (this.#size > LIMITS.structure * 16) {
      throw new VimgError('LIMIT', 'the device is too large to copy', { op: 'snapshot', path: this.name });
    }
    const bytes = new Uint8Array(this.#size);
    this.pread(bytes, 0);
    return bytes;
  }

  /** A second device with the same content, in time proportional to the chunks; neither sees the other's writes. */
  fork(options: MemoryDeviceOptions = {}): MemoryDevice {
    const device = new MemoryDevice(this.#size, {
      name: this.name,
      growable: this.limits.growable,
      readOnly: this.readOnly,
      ...options,
    });
    device.#chunks = new Map(this.#chunks);
    this.#shared = new Set(this.#chunks.keys());
    device.#shared = new Set(this.#shared);
    return device;
  }

  #drop(index: number): void {
    this.#chunks.delete(index);
    this.#shared.delete(index);
  }

  /** Indices of the chunks that exist and touch `[offset, end)`, in no order: whichever walk is the shorter. */
  #chunksIn(offset: number, end: number): number[] {
    const first = Math.floor(offset / CHUNK);
    const last = Math.ceil(end / CHUNK);
    const found: number[] = [];
    if (last - first > this.#chunks.size) {
      for (const index of this.#chunks.keys()) if (index >= first && index < last) found.push(index);
    } else {
      for (let index = first; index < last; index++) if (this.#chunks.has(index)) found.push(index);
    }
    return found;
  }
}
