import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CountDevice } from '../../src/device/count-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { compareDisks } from '../../src/job/compare.ts';

const MiB = 1024 * 1024;

function disk(size: number, bytes: Record<number, number> = {}): MemoryDevice {
  const device = MemoryDevice.create(size);
  for (const [at, value] of Object.entries(bytes)) device.pwrite(Uint8Array.of(value), Number(at));
  return device;
}

describe('compareDisks', () => {
  it('finds the first sector that differs, wherever it is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(9 * MiB - 1), { minLength: 1, maxLength: 3 }), async (places) => {
        const first = disk(9 * MiB, { 0: 1, 5000000: 1 });
        const second = disk(9 * MiB, { 0: 1, 5000000: 1 });
        for (const place of places) second.pwrite(Uint8Array.of(9), place);
        const offset = Math.floor(Math.min(...places) / 512) * 512;
        const found = { identical: false, difference: 'content', offset, sizesDiffer: false };
        expect(await compareDisks(first, second)).toEqual(found);
        expect(await compareDisks(second, first)).toEqual(found);
      }),
      { numRuns: 40 },
    );
  });

  it('reads nothing where both are known to be zero', async () => {
    const first = new CountDevice(disk(64 * MiB, { 0: 1 }));
    expect(await compareDisks(first, disk(64 * MiB, { 0: 1 }))).toEqual({
      identical: true,
      sizesDiffer: false,
    });
    expect(first.counts.read.bytes).toBeLessThan(MiB);
  });

  it('takes what is behind a shorter disk for zeroes', async () => {
    expect(await compareDisks(disk(MiB), disk(3 * MiB))).toEqual({ identical: true, sizesDiffer: true });
    expect(await compareDisks(disk(3 * MiB, { 2000000: 1 }), disk(MiB))).toMatchObject({
      identical: false,
      offset: 1_999_872,
    });
    expect(await compareDisks(disk(MiB), disk(3 * MiB), { strict: true })).toEqual({
      identical: false,
      difference: 'size',
      sizesDiffer: true,
    });
  });

  it('is strict about what is allocated, when asked to', async () => {
    const zeroes = disk(MiB);
    zeroes.pwrite(new Uint8Array(512), 500_000);
    expect(await compareDisks(disk(MiB), zeroes)).toMatchObject({ identical: true });
    expect(await compareDisks(disk(MiB), zeroes, { strict: true })).toMatchObject({ difference: 'status' });
  });

  it('fails when a disk cannot be read, and stops when it is cancelled', async () => {
    const bad = new FaultDevice(disk(MiB, { 0: 1 }), [{ on: 'read', sticky: true }]);
    await expect(compareDisks(bad, disk(MiB))).rejects.toMatchObject({ code: 'IO' });
    const controller = new AbortController();
    controller.abort();
    await expect(compareDisks(disk(MiB), disk(MiB), { signal: controller.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });
});
