import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';

const TiB = 2 ** 40;

describe('MemoryDevice', () => {
  it('holds a disk of 64 TiB with little data', () => {
    const device = MemoryDevice.create(64 * TiB);
    device.pwrite(Buffer.from('here'), 63 * TiB);
    const read = Buffer.alloc(6);
    device.pread(read, 63 * TiB - 1);
    expect(read.toString('latin1')).toBe('\0here\0');
    expect(device.status(0, 64 * TiB)).toEqual({ offset: 0, length: 63 * TiB, zero: true, allocated: false });
    device.writeZeroes(0, 64 * TiB);
    expect(device.allocatedBytes()).toBe(0);
    expect(device.size).toBe(64 * TiB);
  });

  it('copies what it is made from and what it gives out', () => {
    const bytes = Buffer.from('abc');
    const device = MemoryDevice.from(bytes);
    bytes[0] = 0;
    device.snapshot()[1] = 0;
    expect(Buffer.from(device.snapshot()).toString()).toBe('abc');
  });

  it('forks: neither device sees what the other writes', () => {
    const first = MemoryDevice.from(Buffer.from('aaaa'));
    const second = first.fork();
    const third = second.fork();
    second.pwrite(Buffer.from('b'), 0);
    first.pwrite(Buffer.from('c'), 3);
    third.resize(2);
    third.resize(4);
    const text = (device: MemoryDevice): string => Buffer.from(device.snapshot()).toString('latin1');
    expect([first, second, third].map(text)).toEqual(['aaac', 'baaa', 'aa\0\0']);
  });

  it('does not show old bytes again after shrinking and growing', () => {
    const device = MemoryDevice.from(Buffer.alloc(100_000, 1));
    device.resize(50_001);
    device.resize(100_000);
    const after = device.snapshot();
    expect(after.subarray(0, 50_001).every((byte) => byte === 1)).toBe(true);
    expect(after.subarray(50_001).every((byte) => byte === 0)).toBe(true);
  });

  it('keeps its content over close', async () => {
    const device = MemoryDevice.from(Buffer.from('kept'));
    await device.close();
    await device.close();
    expect(Buffer.from(device.snapshot()).toString()).toBe('kept');
  });
});
