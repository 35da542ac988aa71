import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { CopyPlan } from '../../src/job/copy-plan.ts';
import { countDataBytes, type DeviceRange, RangeWalker } from '../../src/job/device-ranges.ts';

const PIECE = 16 * 1024;

/** A device in memory that holds data in these pieces only. */
function deviceWith(pieces: readonly number[], size: number): MemoryDevice {
  const device = MemoryDevice.create(size);
  for (const piece of pieces) {
    if (piece * PIECE < size) device.pwrite(Uint8Array.of(piece + 1), piece * PIECE);
  }
  return device;
}

async function drain(next: () => Promise<DeviceRange | undefined>): Promise<DeviceRange[]> {
  const ranges: DeviceRange[] = [];
  for (let range = await next(); range !== undefined; range = await next()) ranges.push(range);
  return ranges;
}

function expectTiling(ranges: readonly DeviceRange[], size: number): void {
  let end = 0;
  for (const range of ranges) {
    expect(range.offset).toBe(end);
    expect(range.length).toBeGreaterThan(0);
    end += range.length;
  }
  expect(end).toBe(size);
}

describe('RangeWalker', () => {
  it('merges neighbours and leaves no gap', async () => {
    const device = deviceWith([1, 2, 5], 8 * PIECE);
    const walker = new RangeWalker(device, 0, device.size);
    expect(await drain(() => walker.next())).toEqual([
      { offset: 0, length: PIECE, zero: true },
      { offset: PIECE, length: 2 * PIECE, zero: false },
      { offset: 3 * PIECE, length: 2 * PIECE, zero: true },
      { offset: 5 * PIECE, length: PIECE, zero: false },
      { offset: 6 * PIECE, length: 2 * PIECE, zero: true },
    ]);
    expect(await countDataBytes(device, () => undefined)).toBe(3 * PIECE);
  });

  it('covers any device once, whatever is stored', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(30), { maxLength: 20 }),
        fc.integer({ min: 1, max: 30 * PIECE }),
        async (pieces, size) => {
          const device = deviceWith(pieces, size);
          const walker = new RangeWalker(device, 0, size, 3 * PIECE);
          expectTiling(await drain(() => walker.next()), size);
        },
      ),
    );
  });

  it('is empty for an empty device', async () => {
    expect(await new RangeWalker(MemoryDevice.create(0), 0, 0).next()).toBeUndefined();
  });
});

describe('CopyPlan', () => {
  it('hands out every byte once; data in whole units, zeroes only where there are zeroes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(40), { maxLength: 20 }),
        fc.integer({ min: 1, max: 40 * PIECE }),
        fc.constantFrom(1, 512, PIECE, 4 * PIECE, 8 * PIECE),
        async (pieces, size, unit) => {
          const device = deviceWith(pieces, size);
          const chunk = 8 * PIECE;
          const plan = new CopyPlan(device, unit, chunk);
          const spans = await drain(() => plan.next());
          expectTiling(spans, size);
          for (const span of spans) {
            const end = span.offset + span.length;
            if (span.zero) {
              const found = new Uint8Array(span.length);
              device.pread(found, span.offset);
              expect(found.every((byte) => byte === 0)).toBe(true);
            } else {
              expect(span.length).toBeLessThanOrEqual(chunk);
              expect(span.offset % unit).toBe(0);
              expect(end === size || end % unit === 0).toBe(true);
            }
          }
        },
      ),
    );
  });
});
