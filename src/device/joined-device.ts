/**
 * Several devices one behind the other, as one: the extents of a split image, the LUNs of a volume.
 *
 * The parts keep the sizes that they had when they were joined; the whole has a fixed size. Closing it closes them.
 */
import { invariant } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, DeviceLimits, Extent, WriteZeroesOptions } from './block-device.ts';
import { checkDiscard, checkInside, checkResize, checkWritable } from './range-check.ts';

interface Part {
  readonly device: BlockDevice;
  /** Where it starts and ends in the whole. */
  readonly start: number;
  readonly end: number;
}

export class JoinedDevice implements BlockDevice {
  readonly name: string;
  readonly size: number;
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  readonly #parts: readonly Part[];

  /** Joins the devices in this order. It is read-only if one of them is. */
  constructor(
    devices: readonly BlockDevice[],
    name: string = devices.map((device) => device.name).join('+'),
  ) {
    invariant(devices.length > 0, 'nothing to join');
    let end = 0;
    this.#parts = devices.map((device) => {
      const start = end;
      end += device.size;
      return { device, start, end };
    });
    this.name = name;
    this.size = end;
    this.readOnly = devices.some((device) => device.readOnly);
    const granularities = devices.map((device) => device.limits.discardGranularity);
    this.limits = {
      alignment: Math.max(...devices.map((device) => device.limits.alignment)),
      discardGranularity: granularities.includes(0) ? 0 : Math.max(...granularities),
      growable: false,
    };
    const aligned = this.#parts.every((part) => part.start % this.limits.alignment === 0);
    invariant(aligned, 'parts must be multiples of the alignment of the whole');
  }

  /** What is joined, in order. */
  get devices(): BlockDevice[] {
    return this.#parts.map(({ device }) => device);
  }

  pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    checkInside(this, 'read', offset, buffer.length);
    return this.#spread(offset, buffer.length, (device, at, from, length) =>
      device.pread(buffer.subarray(from, from + length), at),
    );
  }

  pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    checkWritable(this, 'write', offset, buffer.length);
    return this.#spread(offset, buffer.length, (device, at, from, length) =>
      device.pwrite(buffer.subarray(from, from + length), at),
    );
  }

  writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    checkWritable(this, 'write zeroes', offset, length);
    return this.#spread(offset, length, (device, at, _, part) => device.writeZeroes(at, part, options));
  }

  discard(offset: number, length: number): MaybePromise<void> {
    checkDiscard(this, offset, length);
    return this.#spread(offset, length, (device, at, _, part) => device.discard(at, part));
  }

  flush(): MaybePromise<void> {
    return everyPart(
      this.#parts.map(
        ({ device }) =>
          () =>
            device.flush(),
      ),
    );
  }

  status(offset: number, length: number): MaybePromise<Extent> {
    checkInside(this, 'status', offset, length);
    const part = this.#partAt(offset);
    if (part === undefined) return { offset, length, zero: false, allocated: true };
    const extent = part.device.status(offset - part.start, Math.min(length, part.end - offset));
    const shift = (found: Extent): Extent => ({ ...found, offset: found.offset + part.start });
    return extent instanceof Promise ? extent.then(shift) : shift(extent);
  }

  resize(size: number): void {
    checkResize(this, size, false);
  }

  /** The sum over the parts, when every part knows its own. */
  async allocatedBytes(): Promise<number | undefined> {
    let sum = 0;
    for (const { device } of this.#parts) {
      const bytes = await device.allocatedBytes();
      if (bytes === undefined) return undefined;
      sum += bytes;
    }
    return sum;
  }

  async close(): Promise<void> {
    await everyPart(
      this.#parts.map(
        ({ device }) =>
          () =>
            device.close(),
      ),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Does the operation on each part that the range touches, all at once. */
  #spread(
    offset: number,
    length: number,
    operation: (device: BlockDevice, at: number, from: number, length: number) => MaybePromise<void>,
  ): MaybePromise<void> {
    const first = this.#partAt(offset);
    if (first === undefined || length === 0) return;
    const end = offset + length;
    if (end <= first.end) return operation(first.device, offset - first.start, 0, length);
    const touched = this.#parts.filter((part) => part.start < end && part.end > offset);
    return everyPart(
      touched.map((part) => {
        const from = Math.max(part.start, offset);
        const to = Math.min(part.end, end);
        return () => operation(part.device, from - part.start, from - offset, to - from);
      }),
    );
  }

  /** The part that holds the byte at `offset`; undefined at the end of the whole. */
  #partAt(offset: number): Part | undefined {
    return this.#parts.find((part) => offset < part.end);
  }
}

/**
 * Starts every operation, also when one of them fails; done when all are. Throws the first failure only then, since
 * the others may still be using the caller's buffer.
 */
function everyPart(operations: readonly (() => MaybePromise<void>)[]): MaybePromise<void> {
  const promises: Promise<void>[] = [];
  let failure: { readonly error: unknown } | undefined;
  for (const operation of operations) {
    try {
      const promise = operation();
      if (promise !== undefined) promises.push(promise);
    } catch (error) {
      failure ??= { error };
    }
  }
  if (promises.length > 0) return settle(promises, failure);
  if (failure !== undefined) throw failure.error;
}

async function settle(
  promises: readonly Promise<void>[],
  failure: { readonly error: unknown } | undefined,
): Promise<void> {
  const results = await Promise.allSettled(promises);
  if (failure !== undefined) throw failure.error;
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
