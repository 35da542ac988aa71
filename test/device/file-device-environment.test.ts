/** What the surroundings do to a file: a full disk, a read-only one, a block device, a disk that fails a flush. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { dir } from 'tmp-promise';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FileDevice, type FileDeviceOptions } from '../../src/device/file-device.ts';
import { setNativeCalls } from '../../src/host/libc.ts';
import { deviceConformance, patterned } from '../../src/testing/index.ts';
import { requireLoopDevice, requireMount } from '../reference-tools.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

let folder: { path: string; cleanup: () => Promise<void> };
const undo: (() => void)[] = [];
const opened: FileDevice[] = [];

beforeAll(async () => {
  folder = await dir({ prefix: 'vimg-environment-', unsafeCleanup: true });
});
afterEach(async () => {
  for (const device of opened.splice(0)) await device.close().catch(() => undefined); // closed on a broken disk
  for (const step of undo.splice(0).reverse()) step();
});
afterAll(() => folder.cleanup());

async function open(path: string, options?: FileDeviceOptions): Promise<FileDevice> {
  const device = await FileDevice.open(path, options);
  opened.push(device);
  return device;
}

/** A mounted file system, gone after the test. */
function mount(name: string, ...args: readonly string[]): string {
  const point = join(folder.path, name);
  mkdirSync(point);
  execFileSync('mount', [...args, point]);
  undo.push(() => execFileSync('umount', [point]));
  return point;
}

/** A loop device over a file, gone after the test. */
function attachLoop(path: string, ...args: readonly string[]): string {
  const device = execFileSync('losetup', ['--find', '--show', ...args, path], { encoding: 'utf8' }).trim();
  undo.push(() => execFileSync('losetup', ['--detach', device]));
  return device;
}

describe.skipIf(requireMount())('mounted file systems', () => {
  it('says NO_SPACE when the disk is full, and goes on reading', async () => {
    const point = mount('full', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs');
    const device = await open(join(point, 'disk'), { create: 'exclusive' });
    await device.pwrite(patterned(512 * KiB, 1), 0);
    const noSpace = { code: 'NO_SPACE', path: join(point, 'disk') };
    await expect((async () => device.pwrite(patterned(MiB, 2), 512 * KiB))()).rejects.toMatchObject(noSpace);
    await expect((async () => device.pwrite(patterned(64 * KiB, 2), 3 * MiB))()).rejects.toMatchObject(
      noSpace,
    );
    await expect(device.allocate(0, 2 * MiB)).rejects.toMatchObject(noSpace);
    const content = new Uint8Array(512 * KiB);
    await device.pread(content, 0);
    expect(Buffer.compare(content, patterned(512 * KiB, 1))).toBe(0);
    await device.discard(0, device.size);
    await device.pwrite(patterned(64 * KiB, 2), 0);
  });

  it('zeroes a range where the file system cannot do that by itself', async () => {
    const point = mount('tmpfs', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs');
    const device = await open(join(point, 'disk'), { create: 'exclusive' });
    await device.pwrite(patterned(2 * MiB, 1), 0);
    await device.writeZeroes(1, 2 * MiB - 2, { keepAllocated: true });
    expect(device.allocatedBytes()).toBe(2 * MiB);
    const content = new Uint8Array(2 * MiB - 2).fill(1);
    await device.pread(content, 1);
    expect(content.every((byte) => byte === 0)).toBe(true);
  });

  it('says READ_ONLY on a read-only file system, and reads there under a lock', async () => {
    const point = mount('read-only', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs');
    const path = join(point, 'disk');
    writeFileSync(path, 'content');
    execFileSync('mount', ['-o', 'remount,ro', point]);
    await expect(open(path)).rejects.toMatchObject({ code: 'READ_ONLY', message: 'Read-only file system' });
    await expect(open(`${path}-new`, { create: 'exclusive' })).rejects.toMatchObject({ code: 'READ_ONLY' });
    const device = await open(path, { readOnly: true, lock: 'read' });
    expect(device.locked).toBe(true);
    await device.flush();
  });
});

describe('permissions', () => {
  it.skipIf(process.getuid?.() !== 0)('says READ_ONLY without permission', async () => {
    const path = join(folder.path, 'private');
    writeFileSync(path, 'content', { mode: 0o600 });
    try {
      process.setegid?.(65534);
      process.seteuid?.(65534);
      execFileSync('true'); // the process itself still works
      await expect(open(path)).rejects.toMatchObject({ code: 'READ_ONLY' });
    } finally {
      process.seteuid?.(0);
      process.setegid?.(0);
    }
  });
});

describe.skipIf(requireLoopDevice())('block devices', () => {
  function newLoop(size: number, ...args: readonly string[]): string {
    const path = join(folder.path, `backing-${opened.length}-${undo.length}`);
    writeFileSync(path, '');
    truncateSync(path, size);
    return attachLoop(path, ...args);
  }

  it('has the size of the device, by ioctl or by sysfs', async () => {
    const path = newLoop(3 * MiB + 512);
    for (const native of [true, false]) {
      setNativeCalls(native);
      const device = await open(path);
      expect(device.size).toBe(3 * MiB + 512);
      expect(device.isBlockDevice).toBe(true);
      expect(device.limits.growable).toBe(false);
    }
    setNativeCalls(true);
  });

  it('refuses to write a mounted device', async () => {
    const path = newLoop(4 * MiB);
    execFileSync('mke2fs', ['-q', '-F', path], {
      env: { ...process.env, PATH: '/usr/sbin:/sbin:/usr/bin:/bin' },
    });
    mount('mounted', path);
    const hint = expect.stringContaining('unmount it');
    await expect(open(path, { lock: 'write' })).rejects.toMatchObject({ code: 'LOCKED', hint });
    await open(path, { lock: 'read', readOnly: true });
  });

  it('fails every flush after one that failed', async () => {
    const point = mount('small', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs');
    const backing = join(point, 'backing');
    writeFileSync(backing, '');
    truncateSync(backing, 8 * MiB); // more than there is room for: what is written finds no place
    const device = await open(attachLoop(backing), { lock: 'write' });
    await device.pwrite(patterned(4 * MiB, 1), 0);
    for (let attempt = 0; attempt < 3; attempt++) {
      await expect((async () => device.flush())()).rejects.toMatchObject({ op: 'flush', path: device.name });
    }
  });

  deviceConformance(
    { describe, it, fc },
    'FileDevice on a block device',
    async () => {
      const path = newLoop(256 * KiB, '--sector-size', '4096');
      return {
        device: await FileDevice.open(path, { lock: 'write' }),
        reopenReadOnly: () => FileDevice.open(path, { readOnly: true, lock: 'read' }),
        cleanup: () => undo.pop()?.(),
      };
    },
    { runs: 8 },
  );
});
