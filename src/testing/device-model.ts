/**
 * A model of a device: a plain buffer, changed the way the rules of block-device.ts say, and compared with what the
 * device gives back. Random operations on both must never tell them apart.
 */
import { deepStrictEqual, ok } from 'node:assert/strict';
import type * as FastCheck from 'fast-check';
import { isVimgError } from '../base/errors.ts';
import type { BlockDevice } from '../device/block-device.ts';

/** One random operation. Places are fractions, so that they stay inside whatever the size has become. */
export type ModelOperation =
  | { readonly kind: 'write'; readonly at: number; readonly span: number; readonly byte: number }
  | { readonly kind: 'zero'; readonly at: number; readonly span: number; readonly keepAllocated: boolean }
  | { readonly kind: 'discard' | 'read' | 'status'; readonly at: number; readonly span: number }
  | { readonly kind: 'grow'; readonly gap: number; readonly span: number; readonly byte: number }
  | { readonly kind: 'resize'; readonly at: number }
  | { readonly kind: 'flush' };

/** Growing writes and resizes stay below this, so that a run stays quick. */
const MODEL_SIZE_MAX = 1024 * 1024;

/** Generates operations; `fc` is the module `fast-check`. */
export function modelOperation(fc: typeof FastCheck): FastCheck.Arbitrary<ModelOperation> {
  const fraction = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 0.25, 0.5, 1));
  const byte = fc.integer({ min: 1, max: 255 });
  const range = { at: fraction, span: fraction };
  return fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('write' as const), ...range, byte }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('zero' as const), ...range, keepAllocated: fc.boolean() }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constantFrom('discard' as const, 'read', 'status'), ...range }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('grow' as const), gap: fraction, span: fraction, byte }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('resize' as const), at: fraction }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  );
}

export class DeviceModel {
  readonly #device: BlockDevice;
  #content: Uint8Array;

  private constructor(device: BlockDevice, content: Uint8Array) {
    this.#device = device;
    this.#content = content;
  }

  /** A model that starts with what the device holds. */
  static async of(device: BlockDevice): Promise<DeviceModel> {
    return new DeviceModel(device, await readAll(device));
  }

  /** Does one operation on device and model, and compares what can be seen of it. */
  async apply(operation: ModelOperation): Promise<void> {
    switch (operation.kind) {
      case 'write':
        return this.#write(...this.#range(operation.at, operation.span), operation.byte);
      case 'grow':
        return this.#grow(operation.gap, operation.span, operation.byte);
      case 'zero': {
        const [offset, length] = this.#range(operation.at, operation.span);
        await this.#device.writeZeroes(offset, length, { keepAllocated: operation.keepAllocated });
        this.#content.fill(0, offset, offset + length);
        return;
      }
      case 'discard':
        return this.#discard(...this.#range(operation.at, operation.span));
      case 'read':
        return this.#compare(...this.#range(operation.at, operation.span));
      case 'status':
        return this.#compareStatus(...this.#range(operation.at, operation.span));
      case 'resize':
        return this.#resize(this.#align(operation.at * MODEL_SIZE_MAX));
      case 'flush':
        return this.#device.flush();
    }
  }

  /** Compares everything. */
  async verify(): Promise<void> {
    await this.#compare(0, this.#content.length);
    await this.#compareStatus(0, this.#content.length);
  }

  #align(value: number): number {
    const { alignment } = this.#device.limits;
    return Math.floor(value / alignment) * alignment;
  }

  /** A range inside the device: spans are mostly short, as the square of the fraction. */
  #range(at: number, span: number): [offset: number, length: number] {
    const offset = this.#align(at * this.#content.length);
    return [offset, this.#align(span * span * (this.#content.length - offset))];
  }

  async #write(offset: number, length: number, byte: number): Promise<void> {
    const data = patterned(length, byte);
    const copy = data.slice();
    await this.#device.pwrite(data, offset);
    sameBytes(data, copy, 'a write must not change the buffer');
    data.fill(0xee); // the device must be done with it
    if (offset + length > this.#content.length) this.#setSize(offset + length);
    this.#content.set(copy, offset);
  }

  async #grow(gap: number, span: number, byte: number): Promise<void> {
    if (!this.#device.limits.growable) return;
    const offset = this.#content.length + this.#align(gap * 100_000);
    const length = this.#align(span * span * 200_000);
    if (length > 0 && offset + length <= MODEL_SIZE_MAX) await this.#write(offset, length, byte);
  }

  /** Afterwards each byte is zero or what it was; from then on it stays what it is. */
  async #discard(offset: number, length: number): Promise<void> {
    await this.#device.discard(offset, length);
    const found = new Uint8Array(length);
    await this.#device.pread(found, offset);
    for (let i = 0; i < length; i++) {
      const was = this.#content[offset + i];
      ok(found[i] === 0 || found[i] === was, `byte ${offset + i} is ${found[i]} after a discard, was ${was}`);
    }
    this.#content.set(found, offset);
  }

  async #resize(size: number): Promise<void> {
    try {
      await this.#device.resize(size);
    } catch (error) {
      if (!isVimgError(error, 'UNSUPPORTED')) throw error;
      deepStrictEqual(this.#device.size, this.#content.length, 'a refused resize must not change the size');
      return;
    }
    this.#setSize(size);
  }

  #setSize(size: number): void {
    const content = new Uint8Array(size);
    content.set(this.#content.subarray(0, size));
    this.#content = content;
  }

  async #compare(offset: number, length: number): Promise<void> {
    deepStrictEqual(this.#device.size, this.#content.length, 'size');
    const found = new Uint8Array(length).fill(0xdd);
    await this.#device.pread(found, offset);
    sameBytes(found, this.#content.subarray(offset, offset + length), `read at ${offset}`);
  }

  async #compareStatus(offset: number, length: number): Promise<void> {
    for (let at = offset; at < offset + length; ) {
      const extent = await this.#device.status(at, offset + length - at);
      deepStrictEqual(extent.offset, at, 'an extent starts where it was asked for');
      ok(extent.length >= 1 && at + extent.length <= offset + length, `extent length ${extent.length}`);
      if (extent.zero) {
        const found = this.#content.subarray(at, at + extent.length).findIndex((byte) => byte !== 0);
        ok(found === -1, `byte ${at + found} is called zero and is ${this.#content[at + found]}`);
      }
      at += extent.length;
    }
  }
}

/** Bytes that differ from place to place, so that swapped or shifted data shows. */
export function patterned(length: number, seed: number): Uint8Array {
  const data = new Uint8Array(length);
  for (let i = 0; i < length; i++) data[i] = ((seed + i * 31 + (i >>> 8) * 7) % 255) | 1;
  return data;
}

/** Compares bytes, and says where they first differ instead of printing them all. */
export function sameBytes(found: Uint8Array, expected: Uint8Array, what: string): void {
  deepStrictEqual(found.length, expected.length, `${what}: length`);
  if (Buffer.compare(found, expected) === 0) return;
  const at = found.findIndex((byte, i) => byte !== expected[i]);
  ok(false, `${what}: byte ${at} is ${found[at]}, not ${expected[at]}`);
}

async function readAll(device: BlockDevice): Promise<Uint8Array> {
  const content = new Uint8Array(device.size);
  await device.pread(content, 0);
  return content;
}
