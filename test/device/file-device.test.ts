import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { FileDevice, type FileDeviceOptions } from '../../src/device/file-device.ts';
import { setNativeCalls } from '../../src/host/libc.ts';
import { patterned } from '../../src/testing/index.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

let folder: { path: string; cleanup: () => Promise<void> };
let serial = 0;
const opened: FileDevice[] = [];

beforeAll(async () => {
  folder = await dir({ prefix: 'vimg-file-device-', unsafeCleanup: true });
});
afterEach(async () => {
  setNativeCalls(true);
  await Promise.all(opened.splice(0).map((device) => device.close()));
});
afterAll(() => folder.cleanup());

function newPath(content?: Uint8Array): string {
  const path = join(folder.path, `disk-${serial++}`);
  if (content !== undefined) writeFileSync(path, content);
  return path;
}

async function open(path: string, options?: FileDeviceOptions): Promise<FileDevice> {
  const device = await FileDevice.open(path, options);
  opened.push(device);
  return device;
}

describe('opening', () => {
  it('refuses what is no disk, and says what it is', async () => {
    const fifo = newPath();
    execFileSync('mkfifo', [fifo]);
    const socket = newPath();
    const server = createServer().listen(socket);
    const refused = [
      [folder.path, 'a directory'],
      ['/dev/null', 'a character device'],
      [fifo, 'a FIFO'],
      [socket, 'a socket'],
    ] as const;
    for (const [path, kind] of refused) {
      for (const readOnly of [true, false]) {
        const message = expect.stringContaining(`it is ${kind}`);
        await expect(open(path, { readOnly })).rejects.toMatchObject({ code: 'USAGE', path, message });
      }
    }
    server.close();
  });

  it('says what is missing or in the way', async () => {
    await expect(open(newPath())).rejects.toMatchObject({ code: 'NOT_FOUND', op: 'open' });
    const file = newPath(Buffer.from('old'));
    await expect(open(join(file, 'below'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(open(file, { create: 'exclusive' })).rejects.toMatchObject({ code: 'EXISTS', op: 'create' });
    expect(readFileSync(file, 'utf8')).toBe('old');
    await expect(open(file, { create: 'truncate', readOnly: true })).rejects.toMatchObject({ code: 'USAGE' });
    const loop = newPath();
    symlinkSync(loop, loop);
    await expect(open(loop)).rejects.toMatchObject({ code: 'LIMIT' });
  });

  it('creates exclusively, or over an old file, through a symbolic link too', async () => {
    const path = newPath(Buffer.from('old'));
    const link = newPath();
    symlinkSync(path, link);
    const device = await open(link, { create: 'truncate' });
    expect(device.size).toBe(0);
    await device.pwrite(Buffer.from('new'), 0);
    await device.flush();
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect((await open(newPath(), { create: 'exclusive' })).size).toBe(0);
  });

  it('works with a file name that is no plain ASCII word', async () => {
    const inner = join(folder.path, 'Fünf Bäume 🌳\n');
    mkdirSync(inner);
    const device = await open(join(inner, "it's-$HOME.raw"), { create: 'exclusive' });
    await device.pwrite(Buffer.from('x'), 0);
    expect(device.name).toBe(join(inner, "it's-$HOME.raw"));
  });
});

describe('transfers', () => {
  it('does small ones in the same tick, and large ones not', async () => {
    const device = await open(newPath(), { create: 'exclusive' });
    await device.resize(2 * MiB);
    const small = patterned(64 * KiB, 1);
    expect(device.pwrite(small, 5)).toBeUndefined();
    expect(device.pread(new Uint8Array(64 * KiB), 5)).toBeUndefined();
    expect(device.pwrite(patterned(MiB, 2), 0)).toBeUndefined();
    const large = device.pwrite(patterned(2 * MiB, 2), 0);
    expect(large).toBeInstanceOf(Promise);
    await large;
  });

  it('leaves all but small ones to the pool on an event loop', async () => {
    const device = await open(newPath(patterned(2 * MiB, 1)), { readOnly: false, blocking: false });
    const buffer = new Uint8Array(MiB);
    for (const work of [device.pread(buffer, 0), device.pwrite(patterned(MiB, 2), 0)]) {
      expect(work).toBeInstanceOf(Promise);
      await work;
    }
  });

  it('reads what is cached of a large piece, and the rest', async () => {
    const path = newPath(patterned(MiB, 1));
    const device = await open(path);
    const buffer = new Uint8Array(MiB);
    await device.pread(buffer, 0); // may have to fetch it
    buffer.fill(0);
    expect(device.pread(buffer, 0)).toBeUndefined();
    expect(Buffer.compare(buffer, readFileSync(path))).toBe(0);
  });

  it('reads what is cached in the same tick on an event loop, too', async () => {
    const path = newPath(patterned(100 * KiB, 1));
    const device = await open(path, { blocking: false });
    const buffer = new Uint8Array(4 * KiB);
    await device.pread(buffer, 12345); // may have to fetch it
    buffer.fill(0);
    expect(device.pread(buffer, 12345)).toBeUndefined();
    expect(Buffer.compare(buffer, readFileSync(path).subarray(12345, 12345 + 4 * KiB))).toBe(0);
  });

  it('sends small writes through the pool while the kernel is slow, on an event loop', async () => {
    const device = await open(newPath(), { create: 'exclusive', blocking: false });
    const write = (): unknown => device.pwrite(patterned(512, 1), 0);
    let step = 0; // what each look at the clock adds: no write is slow by accident
    let nowMs = 0;
    const now = vi.spyOn(performance, 'now').mockImplementation(() => (nowMs += step));
    expect(write()).toBeUndefined();
    step = 50;
    expect(write()).toBeUndefined();
    step = 0;
    const slow = Array.from({ length: 64 }, write);
    expect(slow.every((result) => result instanceof Promise)).toBe(true);
    expect(write()).toBeUndefined();
    now.mockRestore();
    await Promise.all(slow);
  });

  it('reads zeroes behind the end of the file while a growing write is under way', async () => {
    const device = await open(newPath(patterned(10, 1)));
    const write = device.pwrite(patterned(MiB, 2), MiB);
    expect(device.size).toBe(2 * MiB);
    const gap = new Uint8Array(100).fill(1);
    await device.pread(gap, 500);
    expect(gap.every((byte) => byte === 0)).toBe(true);
    await write;
  });

  it('says so when the file was cut short while it was open', async () => {
    for (const blocking of [true, false]) {
      const path = newPath(patterned(200 * KiB, 1));
      const device = await open(path, { blocking });
      truncateSync(path, 100 * KiB);
      const cut = { code: 'IO', message: expect.stringContaining('cut short'), path, offset: 100 * KiB };
      await expect((async () => device.pread(new Uint8Array(10_000), 95 * KiB))()).rejects.toMatchObject(cut);
      await expect((async () => device.pread(new Uint8Array(200 * KiB), 0))()).rejects.toMatchObject(cut);
      await expect((async () => device.status(100 * KiB, 1))()).rejects.toMatchObject(cut);
      await device.pread(new Uint8Array(100 * KiB), 0);
    }
  });

  it('does nothing after it was closed', async () => {
    const device = await open(newPath(Buffer.alloc(10)));
    await device.close();
    const closed = { code: 'IO', message: 'the device is closed' };
    for (const operation of [
      () => device.pread(new Uint8Array(1), 0),
      () => device.pwrite(new Uint8Array(1), 0),
      () => device.writeZeroes(0, 1),
      () => device.flush(),
    ]) {
      await expect((async () => operation())()).rejects.toMatchObject(closed);
    }
  });
});

describe('space', () => {
  it('frees and keeps space as asked', async () => {
    const device = await open(newPath(), { create: 'exclusive' });
    await device.pwrite(patterned(4 * MiB, 1), 0);
    await device.flush();
    const full = device.allocatedBytes();
    expect(full).toBeGreaterThanOrEqual(4 * MiB);
    await device.writeZeroes(0, MiB);
    await device.discard(MiB, MiB);
    expect(device.allocatedBytes()).toBeLessThanOrEqual(full - 2 * MiB);
    expect(device.status(0, 4 * MiB)).toEqual({ offset: 0, length: 2 * MiB, zero: true, allocated: false });
    expect(device.status(2 * MiB, 2 * MiB)).toMatchObject({ length: 2 * MiB, zero: false, allocated: true });
    await device.writeZeroes(2 * MiB, 2 * MiB, { keepAllocated: true });
    await device.flush();
    expect(device.allocatedBytes()).toBeGreaterThanOrEqual(2 * MiB);
    const content = new Uint8Array(4 * MiB).fill(1);
    await device.pread(content, 0);
    expect(content.every((byte) => byte === 0)).toBe(true);
  });

  it('reserves space', async () => {
    const device = await open(newPath(Buffer.from('kept')));
    await device.allocate(0, MiB);
    expect(device.size).toBe(MiB);
    expect(device.allocatedBytes()).toBeGreaterThanOrEqual(MiB);
    const content = Buffer.alloc(5, 1);
    await device.pread(content, 0);
    expect(content.toString('latin1')).toBe('kept\0');
    setNativeCalls(false);
    await expect(device.allocate(0, 2 * MiB)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('zeroes and tells status without native calls', async () => {
    setNativeCalls(false);
    const device = await open(newPath(patterned(3 * MiB, 1)));
    await device.writeZeroes(100, 2 * MiB);
    await device.discard(0, MiB);
    expect(device.status(0, 3 * MiB)).toEqual({ offset: 0, length: 3 * MiB, zero: false, allocated: true });
    const content = new Uint8Array(2 * MiB).fill(1);
    await device.pread(content, 100);
    expect(content.every((byte) => byte === 0)).toBe(true);
  });

  it('takes no space for a hole of a tebibyte', async () => {
    const path = newPath(Buffer.alloc(0));
    const device = await open(path);
    await device.writeZeroes(0, 2 ** 40);
    await device.resize(2 ** 40 + 1);
    expect(statSync(path).size).toBe(2 ** 40 + 1);
    expect(device.allocatedBytes()).toBeLessThan(MiB);
    expect(device.status(0, 2 ** 40)).toMatchObject({ length: 2 ** 40, zero: true });
  });
});

describe('copyFrom', () => {
  it('copies inside the kernel, growing the target', async () => {
    const source = await open(newPath(patterned(300_000, 1)), { readOnly: true });
    const path = newPath(patterned(1000, 2));
    const target = await open(path);
    expect(await target.copyFrom(source, 1000, 500, 250_000)).toBe(true);
    expect(target.size).toBe(250_500);
    const expected = Buffer.concat([patterned(500, 2), patterned(300_000, 1).subarray(1000, 251_000)]);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
  });

  it('refuses ranges outside the source, and says false where the kernel cannot', async () => {
    const source = await open(newPath(patterned(1000, 1)), { readOnly: true });
    const target = await open(newPath(Buffer.alloc(0)));
    await expect(target.copyFrom(source, 900, 0, 101)).rejects.toMatchObject({ code: 'OUT_OF_BOUNDS' });
    setNativeCalls(false);
    expect(await target.copyFrom(source, 0, 0, 1000)).toBe(false);
  });
});
