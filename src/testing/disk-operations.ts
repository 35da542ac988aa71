/**
 * Random operations on a disk and its model at once. Places are given as a fraction of the disk and an offset from
 * the boundary of a unit there, so that they mean something whatever the size has become, and so that boundaries are
 * met more often than chance would.
 */
import type * as FastCheck from 'fast-check';
import { SeededRandom } from '../base/random.ts';
import type { DiskImage } from '../image/disk-image.ts';
import { patterned } from './device-model.ts';
import type { ModelDisk } from './model-disk.ts';

/** Where a range lies: near the boundary at `at` (0 to 1) of the disk, `nudge` bytes off it, `length` bytes long. */
export interface DiskRange {
  readonly at: number;
  readonly nudge: number;
  readonly length: number;
}

export type DiskOperation =
  | ({ readonly kind: 'write'; readonly byte: number } & DiskRange)
  | ({ readonly kind: 'zero'; readonly keepAllocated: boolean } & DiskRange)
  | ({ readonly kind: 'discard' | 'read' } & DiskRange)
  | { readonly kind: 'compress'; readonly at: number; readonly byte: number }
  | { readonly kind: 'resize'; readonly to: number }
  | { readonly kind: 'flush' | 'reopen' };

export interface DiskOperationOptions {
  /** Allocation unit of the format; boundaries of it are favoured. */
  readonly unit: number;
  /** Largest range. Default three units. */
  readonly rangeMax?: number;
  /** Whether the format stores compressed units. */
  readonly compress?: boolean;
  readonly resize?: boolean;
}

/** Generates operations; `fc` is the module `fast-check`. */
export function diskOperation(
  fc: typeof FastCheck,
  options: DiskOperationOptions,
): FastCheck.Arbitrary<DiskOperation> {
  const { unit } = options;
  const rangeMax = options.rangeMax ?? 3 * unit;
  const fraction = fc.double({ min: 0, max: 1, noNaN: true });
  const byte = fc.integer({ min: 0, max: 255 });
  const nudge = fc.oneof(
    fc.constantFrom(0, 0, 512, 4096, -512),
    fc.integer({ min: -(unit - 1), max: unit - 1 }),
  );
  const length = fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 10_000 }) },
    { weight: 1, arbitrary: fc.constantFrom(512, 4096, unit, 2 * unit) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: rangeMax }) },
  );
  const range = { at: fraction, nudge, length };
  const kinds: FastCheck.WeightedArbitrary<DiskOperation>[] = [
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('write' as const), ...range, byte }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('zero' as const), ...range, keepAllocated: fc.boolean() }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('discard' as const, 'read'), ...range }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('flush' as const, 'reopen') }) },
  ];
  if (options.compress ?? false) {
    kinds.push({
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('compress' as const), at: fraction, byte }),
    });
  }
  if (options.resize ?? false) {
    kinds.push({ weight: 1, arbitrary: fc.record({ kind: fc.constant('resize' as const), to: fraction }) });
  }
  return fc.oneof(...kinds);
}

/** A disk under test, its model, and how it is opened again. */
export interface DiskUnderTest {
  disk: DiskImage;
  readonly model: ModelDisk;
  readonly unit: number;
  /** Largest size that a resize asks for. */
  readonly sizeMax: number;
  reopen(): Promise<DiskImage>;
}

/** Does one operation on disk and model, and compares what it touched. */
export async function applyDiskOperation(test: DiskUnderTest, operation: DiskOperation): Promise<void> {
  const { model } = test;
  switch (operation.kind) {
    case 'flush':
      return test.disk.flush();
    case 'reopen':
      await test.disk.close();
      test.disk = await test.reopen();
      return;
    case 'resize': {
      const size = Math.floor((operation.to * test.sizeMax) / 512) * 512;
      await test.disk.resize(size);
      model.resize(size);
      return;
    }
    case 'compress':
      return compress(test, operation.at, operation.byte);
    default:
      return applyToRange(test, operation);
  }
}

async function applyToRange(
  test: DiskUnderTest,
  operation: Extract<DiskOperation, DiskRange>,
): Promise<void> {
  const { disk, model, unit } = test;
  const boundary = Math.floor((operation.at * model.size) / unit) * unit;
  const offset = Math.min(Math.max(boundary + operation.nudge, 0), model.size);
  const length = Math.min(operation.length, model.size - offset);
  switch (operation.kind) {
    case 'write': {
      const data = patterned(length, operation.byte);
      model.write(offset, data);
      await disk.pwrite(data, offset);
      data.fill(0xee); // the disk must be done with it
      break;
    }
    case 'zero':
      await disk.writeZeroes(offset, length, { keepAllocated: operation.keepAllocated });
      model.zero(offset, length);
      break;
    case 'discard':
      await disk.discard(offset, length);
      model.discard(offset, length);
      break;
    default:
  }
  const from = Math.max(0, offset - 5000);
  await model.compare(disk, from, Math.min(model.size, offset + length + 5000) - from);
}

/** Mostly half pattern, half zeroes: that always shrinks, and shows shifts. Sometimes bytes that cannot shrink. */
async function compress(test: DiskUnderTest, at: number, byte: number): Promise<void> {
  const { disk, model, unit } = test;
  if (model.size === 0) return;
  const offset = Math.min(Math.floor((at * model.size) / unit), Math.ceil(model.size / unit) - 1) * unit;
  const data = new Uint8Array(Math.min(unit, model.size - offset));
  if (byte < 32) new SeededRandom(byte).fill(data);
  else data.set(patterned(data.length >>> 1, byte));
  await disk.writeCompressed(offset, data);
  model.write(offset, data);
  await model.compare(disk, offset, data.length);
}
