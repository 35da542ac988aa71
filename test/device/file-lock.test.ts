import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { on, once } from 'node:events';
import { readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { VimgError } from '../../src/base/errors.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import type { LockMode } from '../../src/host/file-lock.ts';
import { setNativeCalls } from '../../src/host/libc.ts';
import { requireTool } from '../reference-tools.ts';

let folder: { path: string; cleanup: () => Promise<void> };
let serial = 0;
const opened: FileDevice[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  folder = await dir({ prefix: 'vimg-file-lock-', unsafeCleanup: true });
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((device) => device.close()));
  for (const child of children.splice(0)) await stop(child);
});
afterAll(() => folder.cleanup());

async function open(path: string, lock: LockMode): Promise<FileDevice> {
  const device = await FileDevice.open(path, { lock, readOnly: lock === 'read' });
  opened.push(device);
  return device;
}

async function newDisk(): Promise<string> {
  const path = join(folder.path, `disk-${serial++}`);
  const device = await FileDevice.open(path, { create: 'exclusive' });
  await device.resize(1024 * 1024);
  await device.close();
  return path;
}

/** Lock bytes that /proc/locks shows on the file: `100`, `101`, … */
function lockBytes(path: string): number[] {
  const { ino } = statSync(path);
  const bytes = new Set<number>();
  for (const line of readFileSync('/proc/locks', 'ascii').split('\n')) {
    const match = /^\d+: OFDLCK ADVISORY +READ -?\d+ [0-9a-f]+:[0-9a-f]+:(\d+) (\d+) (\d+)$/.exec(line);
    if (match === null || Number(match[1]) !== ino) continue;
    for (let byte = Number(match[2]); byte <= Number(match[3]); byte++) bytes.add(byte);
  }
  return [...bytes].sort((a, b) => a - b);
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.stdin?.end();
  child.kill();
  await gone;
}

describe('locks between opens of one file', () => {
  it('lets readers share, and keeps a writer to itself', async () => {
    const path = await newDisk();
    const first = await open(path, 'read');
    await open(path, 'read');
    expect(first.locked).toBe(true);
    await expect(open(path, 'write')).rejects.toMatchObject({ code: 'LOCKED' });
    await Promise.all(opened.splice(0).map((device) => device.close()));
    await open(path, 'write');
    await expect(open(path, 'read')).rejects.toMatchObject({ code: 'LOCKED' });
    await expect(open(path, 'write')).rejects.toMatchObject({ code: 'LOCKED' });
    expect((await open(path, 'none')).locked).toBe(false);
  });

  it('takes the bytes that QEMU takes', async () => {
    const path = await newDisk();
    const device = await FileDevice.open(path, { lock: 'write' });
    opened.push(device);
    expect(lockBytes(path)).toEqual([100, 101, 103, 201, 203]);
    await device.changeLock('read');
    expect(lockBytes(path)).toEqual([100, 201, 203]);
    await device.changeLock('none');
    expect(lockBytes(path)).toEqual([]);
    expect(device.locked).toBe(false);
  });

  it('keeps the old lock when a change is refused', async () => {
    const path = await newDisk();
    const writer = await FileDevice.open(path, { lock: 'read' });
    opened.push(writer);
    const reader = await open(path, 'read');
    await expect(writer.changeLock('write')).rejects.toMatchObject({ code: 'LOCKED' });
    expect(lockBytes(path)).toEqual([100, 201, 203]);
    await reader.close();
    await writer.changeLock('write');
    expect(lockBytes(path)).toEqual([100, 101, 103, 201, 203]);
  });

  it('does not empty a file that someone uses', async () => {
    const path = await newDisk();
    await open(path, 'read');
    await expect(FileDevice.open(path, { create: 'truncate', lock: 'write' })).rejects.toMatchObject({
      code: 'LOCKED',
    });
    expect(statSync(path).size).toBe(1024 * 1024);
  });

  it('waits out a lock that is held for a moment', async () => {
    const path = await newDisk();
    const holder = await open(path, 'read');
    const attempt = open(path, 'write');
    await holder.close();
    expect((await attempt).locked).toBe(true);
  });

  it('opens the file that has the name once the lock is had', async () => {
    const [path, replacement] = [await newDisk(), await newDisk()];
    const before = statSync(path).ino;
    const opening = open(path, 'write');
    renameSync(replacement, path); // as a snapshot, a revert or a convert of someone else ends
    const device = await opening;
    await device.pwrite(Buffer.from('kept'), 0);
    await device.flush();
    expect(readFileSync(path).toString('latin1', 0, 4)).toBe('kept');
    expect(statSync(path).ino).not.toBe(before);
  });

  it('opens without a lock, and says so, where locks cannot be had', async () => {
    const path = await newDisk();
    setNativeCalls(false);
    try {
      expect((await open(path, 'write')).locked).toBe(false);
    } finally {
      setNativeCalls(true);
    }
  });
});

describe.skipIf(requireTool('qemu-img', 'qemu-io'))('locks between vimg and QEMU', () => {
  async function newQcow2(): Promise<string> {
    const path = join(folder.path, `disk-${serial++}.qcow2`);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1M']);
    return path;
  }

  /** qemu-io with the image open, until its input ends. */
  async function hold(args: readonly string[]): Promise<ChildProcess> {
    const child = spawn('qemu-io', args, { stdio: ['pipe', 'pipe', 'pipe'] });
    children.push(child);
    child.stdin.write('length\n'); // it answers once the image is open
    for await (const text of on(child.stdout, 'data')) if (String(text).includes('1 MiB')) break;
    return child;
  }

  it('takes the same bytes as a writer and as a reader of QEMU', async () => {
    const path = await newQcow2();
    const bytesOf = async (mode: 'read' | 'write'): Promise<number[]> => {
      const device = await open(path, mode);
      const bytes = lockBytes(path);
      await device.close();
      return bytes;
    };
    const ours = [await bytesOf('write'), await bytesOf('read')];
    const writer = await hold(['-f', 'qcow2', path]);
    expect(lockBytes(path)).toEqual(ours[0]);
    await stop(writer);
    await hold(['-r', '-f', 'qcow2', path]);
    expect(lockBytes(path)).toEqual(ours[1]);
  });

  it('is refused while QEMU writes, naming the process', async () => {
    const path = await newQcow2();
    const child = await hold(['-f', 'qcow2', path]);
    for (const mode of ['read', 'write'] as const) {
      const error: VimgError = await open(path, mode).then(
        () => expect.fail('it was opened'),
        (reason) => reason,
      );
      expect(error).toMatchObject({ code: 'LOCKED', path });
      expect(error.message).toContain(`process ${child.pid} (qemu-io)`);
      expect(error.hint).toContain(`qemu-io -f qcow2 ${path}`);
    }
  });

  it('shares with a reader of QEMU, and writes only when that is gone', async () => {
    const path = await newQcow2();
    const child = await hold(['-r', '-f', 'qcow2', path]);
    await open(path, 'read');
    await expect(open(path, 'write')).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining('(qemu-io)'),
    });
    await stop(child);
    await Promise.all(opened.splice(0).map((device) => device.close()));
    await open(path, 'write');
  });

  it('is refused while QEMU writes a raw image, of which QEMU itself shares more', async () => {
    const path = await newDisk();
    await hold(['-f', 'raw', path]);
    expect(lockBytes(path)).toEqual([100, 101]);
    await expect(open(path, 'read')).rejects.toMatchObject({ code: 'LOCKED' });
    await expect(open(path, 'write')).rejects.toMatchObject({ code: 'LOCKED' });
  });

  it('makes the tools of QEMU refuse what it would disturb', async () => {
    const path = await newQcow2();
    const raw = join(folder.path, `out-${serial++}.raw`);
    const runs: readonly (readonly string[])[] = [
      ['qemu-img', 'info', path],
      ['qemu-img', 'check', path],
      ['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, raw],
      ['qemu-img', 'resize', path, '2M'],
      ['qemu-img', 'snapshot', '-c', 'x', path],
      ['qemu-io', '-f', 'qcow2', '-c', 'write 0 512', path],
    ];
    const succeeded = (): string[] =>
      runs
        .filter(([tool = '', ...args]) => spawnSync(tool, args).status === 0)
        .map(([tool, verb]) => (tool === 'qemu-io' ? 'write' : (verb as string)));
    const writer = await open(path, 'write');
    expect(succeeded()).toEqual([]);
    await writer.close();
    const reader = await open(path, 'read');
    expect(succeeded()).toEqual(['info', 'check', 'convert']);
    await reader.close();
    expect(succeeded()).toEqual(['info', 'check', 'convert', 'resize', 'snapshot', 'write']);
  });

  it('holds a base as a reader does: nobody writes it, its clones open', async () => {
    const base = await newQcow2();
    const clone = join(folder.path, `clone-${serial++}.qcow2`);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', clone]);
    await open(base, 'read');
    const child = await hold(['-f', 'qcow2', clone]);
    await expect(open(clone, 'read')).rejects.toMatchObject({ code: 'LOCKED' });
    expect(spawnSync('qemu-img', ['commit', '-q', clone]).status).not.toBe(0);
    await stop(child);
    expect(spawnSync('qemu-img', ['commit', '-q', clone]).status).not.toBe(0);
    await Promise.all(opened.splice(0).map((device) => device.close()));
    expect(spawnSync('qemu-img', ['commit', '-q', clone]).status).toBe(0);
  });
});
