import { describe, expect, it } from 'vitest';
import { VimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';

import { DelayDevice } from '../../src/device/delay-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { type CopyOptions, type CopyTarget, copyDevice } from '../../src/job/copy.ts';
import { ProgressMeter } from '../../src/job/progress.ts';

const MiB = 1024 * 1024;

function options(more: Partial<CopyOptions> = {}): CopyOptions {
  return {
    meter: new ProgressMeter(undefined),
    sparseSize: 4096,
    compress: false,
    parallel: 4,
    unordered: false,
    ...more,
  };
}

/** A target that remembers what was done to it. */
class LoggedTarget implements CopyTarget {
  readonly unit: number;
  readonly blank: boolean;
  readonly device: MemoryDevice;
  readonly log: string[] = [];

  constructor(size: number, unit = 1, blank = true) {
    this.unit = unit;
    this.blank = blank;
    this.device = MemoryDevice.create(size);
  }

  write(offset: number, data: Uint8Array): void {
    this.log.push(`write ${offset}+${data.length}`);
    this.device.pwrite(data, offset);
  }

  writeZeroes(offset: number, length: number): void {
    this.log.push(`zero ${offset}+${length}`);
    this.device.writeZeroes(offset, length);
  }

  writeCompressed(offset: number, unit: Uint8Array): Promise<void> {
    this.log.push(`compressed ${offset}+${unit.length}`);
    this.device.pwrite(unit, offset);
    return Promise.resolve();
  }
}

function randomDisk(seed: number, size: number): MemoryDevice {
  const random = new SeededRandom(seed);
  const device = MemoryDevice.create(size);
  for (let i = 0; i < 40; i++) {
    const offset = random.below(size / 512) * 512;
    device.pwrite(random.fill(new Uint8Array(Math.min(random.below(300_000), size - offset))), offset);
  }
  return device;
}

function bytesOf(device: MemoryDevice): Buffer {
  const bytes = Buffer.alloc(device.size);
  device.pread(bytes, 0);
  return bytes;
}

describe('copyDevice', () => {
  it('copies everything, for every unit', async () => {
    for (const unit of [1, 4096, 65536, 4 * MiB]) {
      const source = randomDisk(unit, 9 * MiB + 512);
      const target = new LoggedTarget(source.size, unit);
      await copyDevice(source, target, options());
      expect(bytesOf(target.device).equals(bytesOf(source)), `unit ${unit}`).toBe(true);
    }
  });

  it('reads nothing of a hole and writes nothing of zeroes', async () => {
    const source = MemoryDevice.create(64 * MiB);
    source.pwrite(Buffer.alloc(65536, 1), 8 * MiB);
    source.pwrite(Buffer.alloc(65536, 0), 16 * MiB);
    const target = new LoggedTarget(source.size);
    await copyDevice(source, target, options());
    expect(target.log).toEqual([`write ${8 * MiB}+65536`]);
  });

  it('zeroes what is zero in a target that holds something else', async () => {
    const source = MemoryDevice.create(MiB);
    source.pwrite(Buffer.alloc(4096, 1), 65536);
    const target = new LoggedTarget(MiB, 1, false);
    target.device.pwrite(Buffer.alloc(MiB, 9), 0);
    await copyDevice(source, target, options());
    expect(bytesOf(target.device).equals(bytesOf(source))).toBe(true);
  });

  it('writes everything with a sparse size of 0', async () => {
    const source = MemoryDevice.create((3 * MiB) / 4);
    const target = new LoggedTarget(source.size);
    await copyDevice(source, target, options({ sparseSize: 0 }));
    expect(target.log).toEqual([`write 0+${MiB / 2}`, `write ${MiB / 2}+${MiB / 4}`]);
  });

  it('stores only what differs from the backing', async () => {
    const backing = randomDisk(1, 4 * MiB);
    const source = randomDisk(2, 4 * MiB);
    const target = new LoggedTarget(source.size, 65536);
    target.device.pwrite(bytesOf(backing), 0);
    await copyDevice(source, target, options({ backing }));
    expect(bytesOf(target.device).equals(bytesOf(source))).toBe(true);

    const same = new LoggedTarget(source.size, 65536);
    await copyDevice(source, same, options({ backing: source }));
    expect(same.log).toEqual([]);
  });

  it('zeroes what a longer, or a shorter, backing holds', async () => {
    const backing = MemoryDevice.create(2 * MiB);
    backing.pwrite(Buffer.alloc(100, 1), 70_000);
    const target = new LoggedTarget(MiB, 65536);
    await copyDevice(MemoryDevice.create(MiB), target, options({ backing }));
    expect(target.log).toEqual(['zero 65536+65536']);
    const longer = new LoggedTarget(4 * MiB, 65536);
    await copyDevice(MemoryDevice.create(4 * MiB), longer, options({ backing }));
    expect(longer.log).toEqual(['zero 65536+65536']);
  });

  it('compresses whole units, and leaves out those of zeroes', async () => {
    const source = MemoryDevice.create(300_000);
    source.pwrite(Buffer.from([1]), 70_000);
    source.pwrite(Buffer.from([1]), 299_999);
    const target = new LoggedTarget(source.size, 65536);
    await copyDevice(source, target, options({ compress: true }));
    expect(target.log).toEqual(['compressed 65536+65536', 'compressed 262144+37856']);
  });

  it('writes in order, while reads overtake each other', async () => {
    const delays = new SeededRandom(5);
    const inner = MemoryDevice.create(32 * MiB);
    for (let at = 0; at < inner.size; at += MiB) inner.pwrite(Uint8Array.of(1), at);
    const source = new DelayDevice(inner, () => delays.below(3));
    const target = new LoggedTarget(source.size);
    await copyDevice(source, target, options({ parallel: 8 }));
    const offsets = target.log.map((line) => Number(/ ([0-9]+)/.exec(line)?.[1]));
    expect(offsets).toHaveLength(32);
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
  });

  it('ends with the first failure, of reading or of writing', async () => {
    const source = new FaultDevice(randomDisk(3, 16 * MiB), [{ on: 'read', at: 4 }]);
    await expect(copyDevice(source, new LoggedTarget(source.size), options())).rejects.toMatchObject({
      code: 'IO',
    });
    const target = new LoggedTarget(16 * MiB);
    target.write = () => {
      throw new VimgError('NO_SPACE', 'full');
    };
    await expect(copyDevice(randomDisk(3, 16 * MiB), target, options())).rejects.toMatchObject({
      code: 'NO_SPACE',
    });
  });

  it('writes zeroes for what cannot be read, when asked to', async () => {
    const inner = MemoryDevice.from(Buffer.alloc(MiB, 7));
    const bad = { offset: 100_000, length: 10 };
    const source = new FaultDevice(inner, [{ on: 'read', sticky: true, within: bad }]);
    const target = new LoggedTarget(MiB);
    const told: [number, number][] = [];
    await copyDevice(
      source,
      target,
      options({ onUnreadable: (offset, length) => told.push([offset, length]) }),
    );
    expect(told).toEqual([[98_304, 4096]]);
    const found = bytesOf(target.device);
    expect(found.subarray(98_304, 102_400).every((byte) => byte === 0)).toBe(true);
    expect(found.filter((byte) => byte === 7)).toHaveLength(MiB - 4096);
  });

  it('stops when it is cancelled', async () => {
    const source = randomDisk(4, 32 * MiB);
    const controller = new AbortController();
    const target = new LoggedTarget(source.size);
    const write = target.write.bind(target);
    target.write = (offset, data) => {
      controller.abort();
      write(offset, data);
    };
    await expect(copyDevice(source, target, options({ signal: controller.signal }))).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });
});
