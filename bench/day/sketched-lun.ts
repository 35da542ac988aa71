/**
 * A LUN in little memory: of a block that is the same byte throughout, as the guests of a simulated day write it, only
 * that byte is kept; of others, which are metadata, all. And a clock: how long a spinning disk would have taken.
 */
import type { BlockDevice, DeviceLimits, Extent } from '../../src/device/block-device.ts';
import { checkDiscard, checkInside, checkWritable } from '../../src/device/range-check.ts';
import { MiB } from '../work.ts';

const BLOCK = 4096;
const CHUNK: number = MiB / BLOCK;
/** Going to another place, and bytes in a millisecond once there: a large disk of a SAN. */
const SEEK_MS = 8;
const BYTES_EACH_MS: number = (200 * MiB) / 1000;

export class SketchedLun implements BlockDevice {
  readonly name = 'sketched';
  readonly size: number;
  readonly readOnly = false;
  readonly limits: DeviceLimits = { alignment: 1, discardGranularity: BLOCK, growable: false };
  /** The byte of each block, by the number of its chunk. */
  readonly #bytes = new Map<number, Uint8Array>();
  /** Blocks that are not one byte throughout. */
  readonly #whole = new Map<number, Buffer>();
  #head = 0;
  /** Milliseconds that the reads so far would have taken. */
  readMs = 0;
  readBytes = 0;
  reads = 0;

  constructor(size: number) {
    this.size = size;
  }

  pread(buffer: Uint8Array, offset: number): void {
    checkInside(this, 'read', offset, buffer.length);
    this.readMs += this.#wayTo(offset);
    this.readMs += buffer.length / BYTES_EACH_MS;
    this.#head = offset + buffer.length;
    this.readBytes += buffer.length;
    this.reads++;
    this.#eachBlock(offset, buffer.length, (block, from, to, at) => {
      const whole = this.#whole.get(block);
      if (whole) buffer.set(whole.subarray(from, to), at);
      else buffer.fill(this.#byteOf(block), at, at + to - from);
    });
  }

  pwrite(buffer: Uint8Array, offset: number): void {
    checkWritable(this, 'write', offset, buffer.length);
    const uniform = isUniform(buffer);
    this.#eachBlock(offset, buffer.length, (block, from, to, at) => {
      const part = buffer.subarray(at, at + to - from);
      if (part.length === BLOCK && (uniform || isUniform(part))) this.#setByte(block, part[0] as number);
      else this.#setPart(block, from, part);
    });
  }

  /** A little ahead is waited for, another place is gone to. */
  #wayTo(offset: number): number {
    const ahead = offset - this.#head;
    return ahead >= 0 ? Math.min(ahead / BYTES_EACH_MS, SEEK_MS) : SEEK_MS;
  }

  #setPart(block: number, from: number, part: Uint8Array): void {
    const whole = this.#whole.get(block) ?? Buffer.alloc(BLOCK, this.#byteOf(block));
    whole.set(part, from);
    this.#whole.set(block, whole);
  }

  #setByte(block: number, value: number): void {
    this.#whole.delete(block);
    const chunk = Math.floor(block / CHUNK);
    let bytes = this.#bytes.get(chunk);
    if (!bytes) {
      bytes = new Uint8Array(CHUNK);
      this.#bytes.set(chunk, bytes);
    }
    bytes[block % CHUNK] = value;
  }

  #byteOf(block: number): number {
    return this.#bytes.get(Math.floor(block / CHUNK))?.[block % CHUNK] ?? 0;
  }

  #eachBlock(
    offset: number,
    length: number,
    work: (block: number, from: number, to: number, at: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const block = Math.floor((offset + at) / BLOCK);
      const from = (offset + at) % BLOCK;
      const to = Math.min(BLOCK, from + length - at);
      work(block, from, to, at);
      at += to - from;
    }
  }

  writeZeroes(offset: number, length: number): void {
    this.pwrite(new Uint8Array(length), offset);
  }

  discard(offset: number, length: number): void {
    checkDiscard(this, offset, length);
  }

  flush(): void {}

  status(offset: number, length: number): Extent {
    return { offset, length, zero: false, allocated: true };
  }

  resize(): void {
    throw new TypeError('a LUN keeps its size');
  }

  allocatedBytes(): undefined {
    return undefined;
  }

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** Whether all bytes are the same one: memory compared with itself, one byte on. */
function isUniform(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(1), bytes.subarray(0, -1)) === 0;
}
