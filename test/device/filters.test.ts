import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import {
  applyChange,
  CountDevice,
  DelayDevice,
  FaultDevice,
  JoinedDevice,
  MemoryDevice,
  type RecordedEvent,
  RecordingDevice,
  SubDevice,
  ThrottleDevice,
} from '../../src/device/index.ts';
import { CrashStates, ManualClock, patterned } from '../../src/testing/index.ts';

const KiB = 1024;

describe('FaultDevice', () => {
  const failing = async (operation: () => unknown): Promise<unknown> => operation();

  it('fails the n-th operation of a kind, once', async () => {
    const device = new FaultDevice(MemoryDevice.create(KiB), [{ on: 'write', at: 3, error: 'ENOSPC' }]);
    const write = (): Promise<unknown> => failing(() => device.pwrite(Buffer.from('x'), 0));
    await write();
    await device.pread(new Uint8Array(1), 0);
    await write();
    await expect(write()).rejects.toMatchObject({ code: 'NO_SPACE', op: 'write', offset: 0 });
    await write();
  });

  it('fails from then on when sticky, until it is cleared', async () => {
    const device = new FaultDevice(MemoryDevice.create(KiB), [{ on: 'read', at: 2, sticky: true }]);
    const read = (): Promise<unknown> => failing(() => device.pread(new Uint8Array(1), 0));
    await read();
    await expect(read()).rejects.toMatchObject({ code: 'IO' });
    await expect(read()).rejects.toMatchObject({ code: 'IO' });
    device.clear();
    await read();
  });

  it('fails only inside a range, and may have written a part', async () => {
    const memory = MemoryDevice.create(KiB);
    const within = { offset: 100, length: 10 };
    const device = new FaultDevice(memory, [{ on: 'write', within, partialBytes: 3, sticky: true }]);
    await device.pwrite(patterned(100, 1), 0);
    await device.pwrite(patterned(100, 1), 110);
    await expect(failing(() => device.pwrite(Buffer.from('abcdef'), 105))).rejects.toMatchObject({
      code: 'IO',
    });
    expect(Buffer.from(memory.snapshot().subarray(105, 110)).toString('latin1')).toBe('abc\0\0');
  });
});

describe('DelayDevice', () => {
  it('makes an operation wait, so that others overtake it', async () => {
    const clock = new ManualClock();
    const device = new DelayDevice(MemoryDevice.create(KiB), (kind) => (kind === 'write' ? 100 : 10), clock);
    const order: string[] = [];
    const write = device.pwrite(Buffer.from('x'), 0).then(() => order.push('write'));
    const read = device.pread(new Uint8Array(1), 0).then(() => order.push('read'));
    await clock.advance(9);
    expect(order).toEqual([]);
    await clock.advance(1);
    expect(order).toEqual(['read']);
    await clock.advance(90);
    expect(order).toEqual(['read', 'write']);
    await Promise.all([write, read]);
  });
});

describe('ThrottleDevice', () => {
  it('holds the rate on average, in the order asked', async () => {
    const clock = new ManualClock();
    const options = { bytesPerSecond: 100_000, burstBytes: 10_000, clock };
    const device = new ThrottleDevice(MemoryDevice.create(KiB * KiB), options);
    expect(device.pread(new Uint8Array(10_000), 0)).toBeUndefined(); // the burst
    const done: number[] = [];
    for (let i = 0; i < 10; i++) {
      const operation =
        i % 2 ? device.pwrite(patterned(10_000, i), 0) : device.pread(new Uint8Array(10_000), 0);
      void Promise.resolve(operation).then(() => done.push(i));
    }
    await clock.advance(500);
    expect(done.length).toBeGreaterThanOrEqual(4);
    expect(done.length).toBeLessThanOrEqual(6);
    await clock.advance(600);
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('leaves the other direction alone', async () => {
    const clock = new ManualClock();
    const inner = MemoryDevice.create(KiB);
    const device = new ThrottleDevice(inner, { bytesPerSecond: 1, burstBytes: 1, on: 'write', clock });
    expect(device.pwrite(patterned(100, 1), 0)).toBeUndefined();
    for (let i = 0; i < 10; i++) expect(device.pread(new Uint8Array(100), 0)).toBeUndefined();
    expect(device.pwrite(patterned(1, 1), 0)).toBeInstanceOf(Promise);
    await clock.advance(200_000);
  });
});

describe('CountDevice', () => {
  it('counts operations and bytes by kind', async () => {
    const device = new CountDevice(MemoryDevice.create(KiB));
    await device.pwrite(patterned(10, 1), 0);
    await device.pwrite(patterned(20, 1), 0);
    await device.pread(new Uint8Array(5), 0);
    await device.writeZeroes(0, 100);
    await device.flush();
    expect(device.counts.write).toEqual({ operations: 2, bytes: 30 });
    expect(device.counts.read).toEqual({ operations: 1, bytes: 5 });
    expect(device.reset().zero).toEqual({ operations: 1, bytes: 100 });
    expect(device.counts.flush).toEqual({ operations: 0, bytes: 0 });
  });
});

describe('RecordingDevice', () => {
  it('replays to the same content', async () => {
    const start = MemoryDevice.from(patterned(50_000, 1));
    const target = start.fork();
    const device = new RecordingDevice(start);
    const buffer = patterned(10_000, 2);
    await device.pwrite(buffer, 45_000);
    buffer.fill(0); // the log has its own copy
    await device.writeZeroes(100, 1000, { keepAllocated: true });
    await device.discard(16_384, 16_384);
    await device.resize(52_000);
    for (const event of device.events) if (event.kind !== 'flush') await applyChange(event, target);
    expect(Buffer.compare(target.snapshot(), start.snapshot())).toBe(0);
  });

  it('marks what a flush made durable: what had completed when it was called', async () => {
    const clock = new ManualClock();
    const delay = (kind: string): number => (kind === 'flush' ? 10 : 5);
    const device = new RecordingDevice(new DelayDevice(MemoryDevice.create(KiB), delay, clock));
    const write = (at: number): unknown => device.pwrite(Buffer.from('x'), at);
    void write(0);
    await clock.advance(5);
    void write(1); // under way when the flush is called
    void device.flush();
    await clock.advance(8);
    void write(2);
    await clock.advance(10);
    void device.flush();
    await clock.advance(20);
    const seen = device.events.map((event) => (event.kind === 'flush' ? 'flush' : event.durableAt));
    expect(seen).toEqual([3, 4, 4, 'flush', 'flush']);
  });

  it('never calls a change durable after its flush failed', async () => {
    const device = new RecordingDevice(new FaultDevice(MemoryDevice.create(KiB), [{ on: 'flush' }]));
    await device.pwrite(Buffer.from('x'), 0);
    await expect((async () => device.flush())()).rejects.toMatchObject({ code: 'IO' });
    expect(device.takeEvents()).toMatchObject([{ kind: 'write', durableAt: undefined }]);
    expect(device.events).toEqual([]);
  });

  it('shares a log with other devices, and a flush makes only its own changes durable', async () => {
    const log: RecordedEvent[] = [];
    const start = [MemoryDevice.create(4 * KiB), MemoryDevice.create(4 * KiB)] as const;
    const devices = start.map((memory, i) => new RecordingDevice(memory.fork(), log, i));
    for (const [i, device] of devices.entries()) await device.pwrite(Buffer.alloc(512, i + 1), 0);
    await devices[1]?.flush();
    expect(log.map(({ kind, device }) => [kind, device])).toEqual([
      ['write', 0],
      ['write', 1],
      ['flush', 1],
    ]);
    const random = new SeededRandom(1);
    const seen = new Set<string>();
    const states = start.map((memory, i) => new CrashStates(memory, log, i));
    for (let i = 0; i < 50; i++) {
      const media = states.map((each) => each.at(3, random));
      seen.add(media.map((medium) => medium.snapshot()[0]).join());
    }
    expect([...seen].sort()).toEqual(['0,2', '1,2']);
  });
});

describe('SubDevice', () => {
  it('shows a window and nothing else', async () => {
    const memory = MemoryDevice.from(patterned(KiB, 1));
    const window = new SubDevice(memory, 100, 50);
    await window.pwrite(Buffer.alloc(50), 0);
    const expected = patterned(KiB, 1).fill(0, 100, 150);
    expect(Buffer.compare(memory.snapshot(), expected)).toBe(0);
    expect(window.name).toBe('memory+100');
    expect(() => new SubDevice(memory, 1000, 50)).toThrow(/passes the end/);
    await window.close();
  });
});

describe('JoinedDevice', () => {
  it('puts one behind the other', async () => {
    const parts = [3, 0, 5].map((size) => MemoryDevice.create(size, { growable: false }));
    const device = new JoinedDevice(parts, 'whole');
    await device.pwrite(Buffer.from('abcdefgh'), 0);
    expect(parts.map((part) => Buffer.from(part.snapshot()).toString())).toEqual(['abc', '', 'defgh']);
    expect(device.size).toBe(8);
    expect(device.name).toBe('whole');
  });

  it('waits for every part before it fails', async () => {
    const clock = new ManualClock();
    const slow = new DelayDevice(MemoryDevice.create(100), 50, clock);
    const device = new JoinedDevice([new FaultDevice(MemoryDevice.create(100), [{ on: 'read' }]), slow]);
    let failed = false;
    const read = Promise.resolve(device.pread(new Uint8Array(200), 0)).catch(() => {
      failed = true;
    });
    await clock.advance(49);
    expect(failed).toBe(false);
    await clock.advance(1);
    await read;
    expect(failed).toBe(true);
  });

  it('is read-only as soon as one part is', async () => {
    const device = new JoinedDevice([MemoryDevice.create(10), MemoryDevice.create(10, { readOnly: true })]);
    await expect((async () => device.pwrite(new Uint8Array(1), 0))()).rejects.toMatchObject({
      code: 'READ_ONLY',
    });
  });
});
