/**
 * The rules of block-device.ts as tests. Every device and every filter runs them.
 *
 * The device handed in is between 64 KiB and 1 MiB large, writable, and its content does not matter.
 */
import { ok, rejects, strictEqual } from 'node:assert/strict';
import { isVimgError, type VimgError } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { DeviceModel, modelOperation, patterned, sameBytes } from './device-model.ts';
import type { TestApi } from './test-api.ts';

/** A device to test. */
export interface MadeDevice {
  readonly device: BlockDevice;
  /** Called after the test, and after the device was closed. */
  readonly cleanup?: () => MaybePromise<void>;
  /** Makes what is below the device fail its next flush, and only that one. */
  readonly failNextFlush?: () => void;
  /** Makes what is below the device fail its next read, and only that one. */
  readonly failNextRead?: () => void;
  /** Opens the same content again, for reading only. The first device is closed then. */
  readonly reopenReadOnly?: () => MaybePromise<BlockDevice>;
}

export interface DeviceConformanceOptions {
  /** Runs of the test with random operations. Default 30. */
  readonly runs?: number;
}

type MakeDevice = () => MaybePromise<MadeDevice>;

/** Defines the suite. `make` is called for every test. */
export function deviceConformance(
  api: TestApi,
  name: string,
  make: MakeDevice,
  options: DeviceConformanceOptions = {},
): void {
  const test = (rule: string, body: (made: MadeDevice) => Promise<void>): void => {
    api.it(rule, async () => {
      const made = await make();
      try {
        await body(made);
      } finally {
        await made.device.close();
        await made.cleanup?.();
      }
    });
  };
  api.describe(`${name} keeps the rules of a device`, () => {
    test('reads what was written, at any place and length', ({ device }) => readsBack(device));
    test('reads and writes nothing when asked for nothing', ({ device }) => acceptsEmpty(device));
    test('refuses ranges outside', ({ device }) => refusesOutside(device));
    test('grows when written past the end, if it is growable', ({ device }) => growsPastEnd(device));
    test('writes zeroes with and without keeping space', ({ device }) => writesZeroes(device));
    test('never calls data zero', ({ device }) => tellsStatus(device));
    test('resizes, or refuses with UNSUPPORTED', ({ device }) => resizes(device));
    test('works on many ranges at once', ({ device }) => worksConcurrently(device));
    test('closes twice, and after all that is under way', ({ device }) => closesTwice(device));
    test('after a failed flush no flush succeeds', failsFlushForGood);
    test('passes a failed read on, and works again after', passesReadFailure);
    test('opened for reading only, refuses every change', refusesChanges);
    api.it('cannot be told from a plain buffer by random operations', () =>
      runsLikeModel(api, make, options),
    );
  });
}

async function readsBack(device: BlockDevice): Promise<void> {
  const { alignment } = device.limits;
  ok(device.size >= 64 * 1024, `the suite needs 64 KiB, the device has ${device.size} bytes`);
  const ranges = [
    [0, 1],
    [1, 511],
    [511, 2],
    [4095, 4098],
    [16_000, 40_000],
    [0, device.size],
    [device.size - alignment, 1],
  ] as const;
  for (const [from, count] of ranges) {
    const offset = Math.floor(from / alignment) * alignment;
    const length = Math.min(Math.ceil(count / alignment) * alignment, device.size - offset);
    const data = patterned(length, from + 1);
    const kept = data.slice();
    await device.pwrite(data, offset);
    data.fill(0); // the buffer is the caller's again
    sameBytes(await read(device, offset, length), kept, `${length} bytes at ${offset}`);
  }
}

async function acceptsEmpty(device: BlockDevice): Promise<void> {
  const { size } = device;
  for (const offset of [0, size]) {
    await device.pread(new Uint8Array(0), offset);
    await device.pwrite(new Uint8Array(0), offset);
    await device.writeZeroes(offset, 0);
    await device.discard(offset, 0);
  }
  strictEqual(device.size, size);
}

async function refusesOutside(device: BlockDevice): Promise<void> {
  const { size, limits } = device;
  const buffer = new Uint8Array(2 * limits.alignment);
  for (const offset of [size, size - limits.alignment, -limits.alignment, 0.5, Number.NaN]) {
    await fails('OUT_OF_BOUNDS', () => device.pread(buffer, offset));
    await fails('OUT_OF_BOUNDS', () => device.discard(offset, buffer.length));
    await fails('OUT_OF_BOUNDS', () => device.status(offset, buffer.length));
    if (limits.growable && offset > 1) continue;
    await fails('OUT_OF_BOUNDS', () => device.pwrite(buffer, offset));
    await fails('OUT_OF_BOUNDS', () => device.writeZeroes(offset, buffer.length));
  }
  await fails('OUT_OF_BOUNDS', () => device.discard(0, -limits.alignment));
  if (limits.growable) await fails('LIMIT', () => device.pwrite(buffer, Number.MAX_SAFE_INTEGER - 1));
  strictEqual(device.size, size, 'a refused operation must not change the size');
}

async function growsPastEnd(device: BlockDevice): Promise<void> {
  if (!device.limits.growable) return;
  const { size } = device;
  const unit = device.limits.alignment * 512;
  const data = patterned(unit, 3);
  await device.pwrite(data, size + unit);
  strictEqual(device.size, size + 2 * unit);
  sameBytes(await read(device, size, unit), Buffer.alloc(unit), 'a gap reads as zeroes');
  sameBytes(await read(device, size + unit, unit), data, 'the new end');
  await device.writeZeroes(size + unit, 2 * unit);
  strictEqual(device.size, size + 3 * unit);
  sameBytes(await read(device, size + unit, 2 * unit), Buffer.alloc(2 * unit), 'zeroes past the end');
}

async function writesZeroes(device: BlockDevice): Promise<void> {
  const unit = Math.max(512, device.limits.alignment);
  const length = Math.floor(device.size / unit) * unit - 2 * unit;
  for (const keepAllocated of [false, true]) {
    const around = patterned(length + 2 * unit, 9);
    await device.pwrite(around, 0);
    await device.writeZeroes(unit, length, { keepAllocated });
    around.fill(0, unit, unit + length);
    sameBytes(await read(device, 0, around.length), around, 'zeroes and what is around them');
  }
}

async function tellsStatus(device: BlockDevice): Promise<void> {
  const model = await DeviceModel.of(device);
  await model.apply({ kind: 'zero', at: 0, span: 1, keepAllocated: false });
  await model.apply({ kind: 'write', at: 0.4, span: 0.2, byte: 1 });
  await model.apply({ kind: 'write', at: 1 - 1024 / device.size, span: 1, byte: 1 });
  await model.verify();
}

async function resizes(device: BlockDevice): Promise<void> {
  const { size, limits } = device;
  const more = size + 128 * limits.alignment;
  await device.pwrite(patterned(size, 1), 0);
  try {
    await device.resize(more);
  } catch (error) {
    ok(isVimgError(error, 'UNSUPPORTED'), `a device that cannot be resized says UNSUPPORTED, not ${error}`);
    strictEqual(device.size, size);
    return;
  }
  strictEqual(device.size, more);
  sameBytes(await read(device, size, more - size), Buffer.alloc(more - size), 'new space');
  const less = size - 128 * limits.alignment;
  await device.resize(less);
  await device.resize(size);
  sameBytes(await read(device, less, size - less), Buffer.alloc(size - less), 'cut and grown again');
  sameBytes(await read(device, 0, less), patterned(less, 1), 'what was kept');
}

async function worksConcurrently(device: BlockDevice): Promise<void> {
  const unit = Math.max(1536, device.limits.alignment);
  const count = Math.floor(device.size / unit);
  const units = Array.from({ length: count }, (_, i) => i);
  await Promise.all(units.map(async (i) => device.pwrite(patterned(unit, i), i * unit)));
  const flushes = Promise.all([device.flush(), device.flush(), device.flush()]);
  const found = await Promise.all(units.map((i) => read(device, i * unit, unit)));
  await flushes;
  for (const i of units) sameBytes(found[i] as Buffer, patterned(unit, i), `unit ${i}`);
}

async function closesTwice(device: BlockDevice): Promise<void> {
  const large = new Uint8Array(device.size);
  const underWay = [device.pwrite(large, 0), device.flush(), device.pread(large.slice(), 0)];
  await Promise.all([device.close(), device.close(), ...underWay]);
  await device[Symbol.asyncDispose]();
}

async function failsFlushForGood({ device, failNextFlush }: MadeDevice): Promise<void> {
  await device.pwrite(patterned(device.limits.alignment * 16, 1), 0);
  await device.flush();
  if (failNextFlush === undefined) return;
  failNextFlush();
  await device.pwrite(patterned(device.limits.alignment * 16, 2), 0);
  for (let attempt = 0; attempt < 3; attempt++) await fails(undefined, () => device.flush());
  await device.pwrite(patterned(device.limits.alignment * 16, 3), 0);
  await fails(undefined, () => device.flush());
}

async function passesReadFailure({ device, failNextRead }: MadeDevice): Promise<void> {
  const data = patterned(device.size, 5);
  await device.pwrite(data, 0);
  if (failNextRead !== undefined) {
    failNextRead();
    await fails('IO', () => device.pread(new Uint8Array(data.length), 0));
  }
  sameBytes(await read(device, 0, data.length), data, 'content');
}

async function refusesChanges({ device: writable, reopenReadOnly }: MadeDevice): Promise<void> {
  if (reopenReadOnly === undefined) return;
  const data = patterned(writable.limits.alignment * 512, 1);
  await writable.pwrite(data, 0);
  await writable.flush();
  await writable.close();
  const device = await reopenReadOnly();
  try {
    strictEqual(device.readOnly, true);
    await fails('READ_ONLY', () => device.pwrite(data, 0));
    await fails('READ_ONLY', () => device.writeZeroes(0, data.length));
    await fails('READ_ONLY', () => device.discard(0, data.length));
    await fails('READ_ONLY', () => device.resize(data.length));
    await device.flush();
    sameBytes(await read(device, 0, data.length), data, 'content');
  } finally {
    await device.close();
  }
}

async function runsLikeModel(
  { fc }: TestApi,
  make: MakeDevice,
  options: DeviceConformanceOptions,
): Promise<void> {
  const operations = fc.array(modelOperation(fc), { minLength: 1, maxLength: 40 });
  const property = fc.asyncProperty(operations, async (list) => {
    const { device, cleanup } = await make();
    try {
      const model = await DeviceModel.of(device);
      for (const operation of list) await model.apply(operation);
      await model.verify();
    } finally {
      await device.close();
      await cleanup?.();
    }
  });
  await fc.assert(property, { numRuns: options.runs ?? 30 });
}

async function read(device: BlockDevice, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length, 0xdd);
  await device.pread(buffer, offset);
  return buffer;
}

/** The operation throws or rejects with a `VimgError`, of this code if one is given. */
async function fails(code: VimgError['code'] | undefined, operation: () => unknown): Promise<void> {
  await rejects(
    async () => operation(),
    (error) => {
      ok(isVimgError(error, code), `expected a VimgError ${code ?? ''}, got ${error}`);
      return true;
    },
  );
}
