/** The calls that Node lacks: what they do, and what their callers are told where they cannot be made. */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { cloneFileRange, copyFileRange } from '../../src/host/file-copy.ts';
import { readAt, readAtAsync, writeAt, writeAtAsync } from '../../src/host/file-io.ts';
import { changeFileLock } from '../../src/host/file-lock.ts';
import { changeSpace, changeSpaceAsync, seekData, seekHole } from '../../src/host/file-space.ts';
import { errnoName, libc, SystemCallError, setNativeCalls } from '../../src/host/libc.ts';
import { NOT_SUPPORTED, readNowait, WOULD_WAIT } from '../../src/host/nowait-read.ts';
import { findLockHolders } from '../../src/host/processes.ts';

const BLOCK = 64 * 1024;
let folder: { path: string; cleanup: () => Promise<void> };
let serial = 0;
const opened: number[] = [];

beforeAll(async () => {
  folder = await dir({ prefix: 'vimg-kernel-calls-', unsafeCleanup: true });
});
afterEach(() => {
  setNativeCalls(true);
  for (const fd of opened.splice(0)) closeSync(fd);
});
afterAll(() => folder.cleanup());

function newFile(content: Uint8Array | string = ''): number {
  const path = join(folder.path, `file-${serial++}`);
  writeFileSync(path, content);
  const fd = openSync(path, 'r+');
  opened.push(fd);
  return fd;
}

describe('libc', () => {
  it('names an error as node:fs does', () => {
    const error = new SystemCallError('fallocate', 28);
    expect(error).toMatchObject({ code: 'ENOSPC', errno: -28, syscall: 'fallocate' });
    expect(error.message).toBe('ENOSPC: no space left on device, fallocate');
    expect(errnoName(error)).toBe('ENOSPC');
    expect(errnoName('text')).toBeUndefined();
    expect(new SystemCallError('x', 999).code).toBe('E999');
  });

  it('fails with the errno of the call, on this thread and on another', async () => {
    expect(() => changeSpace(-1, 'allocate', 0, 1)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    await expect(changeSpaceAsync(-1, 'allocate', 0, 1)).rejects.toMatchObject({ code: 'EBADF' });
    await expect(changeFileLock(-1, 'none', 'read')).rejects.toMatchObject({ code: 'EBADF' });
    expect(() => seekData(-1, 0)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => readNowait(-1, new Uint8Array(1), 0)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('tells its callers when it is missing', async () => {
    const fd = newFile('data');
    setNativeCalls(false);
    expect(libc()).toBeUndefined();
    expect(changeSpace(fd, 'punch-hole', 0, 4)).toBe(false);
    expect(await changeSpaceAsync(fd, 'punch-hole', 0, 4)).toBe(false);
    expect([seekData(fd, 0), seekHole(fd, 0)]).toEqual([undefined, undefined]);
    expect(readNowait(fd, new Uint8Array(1), 0)).toBe(NOT_SUPPORTED);
    expect(await copyFileRange(fd, 0, fd, 100, 4)).toBe(false);
    expect(cloneFileRange(fd, 0, fd, 100, 4)).toBe(false);
    expect(await changeFileLock(fd, 'none', 'write')).toEqual({ state: 'unsupported' });
  });
});

describe('space', () => {
  it('finds data and holes, and the end', () => {
    const fd = newFile();
    ftruncateSync(fd, 4 * BLOCK);
    writeSync(fd, new Uint8Array(BLOCK).fill(1), 0, BLOCK, BLOCK);
    expect([seekData(fd, 0), seekHole(fd, 0)]).toEqual([BLOCK, 0]);
    expect([seekData(fd, BLOCK + 5), seekHole(fd, BLOCK + 5)]).toEqual([BLOCK + 5, 2 * BLOCK]);
    expect([seekData(fd, 2 * BLOCK), seekData(fd, 9 * BLOCK)]).toEqual(['none', 'none']);
  });

  it('punches, zeroes and allocates', async () => {
    const fd = newFile(new Uint8Array(4 * BLOCK).fill(1));
    expect(changeSpace(fd, 'punch-hole', BLOCK, BLOCK)).toBe(true);
    expect(await changeSpaceAsync(fd, 'punch-hole', 2 * BLOCK, 10)).toBe(true);
    const content = new Uint8Array(4 * BLOCK);
    expect(readAt(fd, content, 0)).toBe(content.length);
    const zeroes = content.filter((byte) => byte === 0).length;
    expect(zeroes).toBe(BLOCK + 10);
    expect(changeSpace(fd, 'allocate', 4 * BLOCK, BLOCK)).toBe(true);
    expect(fstatSync(fd).size).toBe(5 * BLOCK);
  });
});

describe('transfers', () => {
  it('stop at the end of the file, and say where', async () => {
    const fd = newFile('0123456789');
    const buffer = Buffer.alloc(8);
    expect([readAt(fd, buffer, 6), await readAtAsync(fd, buffer, 7)]).toEqual([4, 3]);
    expect([readAt(fd, buffer, 50), await readAtAsync(fd, buffer, 50)]).toEqual([0, 0]);
    expect(await readAtAsync(fd, buffer, 0, 6)).toBe(8);
    expect(buffer.subarray(6).toString()).toBe('67');
  });

  it('write all of it', async () => {
    const fd = newFile();
    writeAt(fd, Buffer.from('abc'), 2);
    await writeAtAsync(fd, Buffer.from('xyz'), 4);
    expect(readFileSync(fd).toString('latin1')).toBe('\0\0abxyz');
    const readOnly = openSync(join(folder.path, `file-${serial - 1}`), 'r');
    opened.push(readOnly);
    expect(() => writeAt(readOnly, Buffer.from('a'), 0)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    await expect(writeAtAsync(readOnly, Buffer.from('a'), 0)).rejects.toMatchObject({ code: 'EBADF' });
  });

  it('without waiting take what is cached, up to the end of the file', () => {
    const fd = newFile('0123456789');
    const buffer = Buffer.alloc(8);
    const view = buffer.subarray(2);
    expect([6, WOULD_WAIT]).toContain(readNowait(fd, view, 1)); // just written: cached, unless memory is short
    expect(['\0\x00123456', '\0'.repeat(8)]).toContain(buffer.toString('latin1'));
    expect([2, WOULD_WAIT]).toContain(readNowait(fd, view, 8));
    expect(readNowait(fd, view, 10)).toBe(0);
  });
});

describe('copies', () => {
  it('by the kernel, in pieces', async () => {
    const data = Uint8Array.from({ length: 3 * BLOCK }, (_, i) => i % 251);
    const [source, target] = [newFile(data), newFile()];
    expect(await copyFileRange(source, 100, target, 50, 2 * BLOCK)).toBe(true);
    expect(
      Buffer.compare(readFileSync(target).subarray(50), Buffer.from(data).subarray(100, 100 + 2 * BLOCK)),
    ).toBe(0);
    expect(await copyFileRange(source, 2 * BLOCK, target, 0, 2 * BLOCK)).toBe(false); // the source ends early
  });

  it('by sharing, where the file system can: else it says so', () => {
    const data = new Uint8Array(BLOCK).fill(7);
    const [source, target] = [newFile(data), newFile()];
    const shared = cloneFileRange(source, 0, target, 0, BLOCK);
    expect(readFileSync(target).length).toBe(shared ? BLOCK : 0);
  });
});

describe('findLockHolders', () => {
  it('names this process for another open of the same file, and nobody for a file without locks', async () => {
    const fd = newFile('data');
    const other = openSync(join(folder.path, `file-${serial - 1}`), 'r');
    opened.push(other);
    expect(findLockHolders(fd, 100, 203)).toEqual([]);
    await changeFileLock(other, 'none', 'read');
    expect(findLockHolders(fd, 100, 203)).toMatchObject([{ pid: process.pid }]);
    expect(findLockHolders(other, 100, 203)).toEqual([]);
    expect(findLockHolders(fd, 300, 400)).toEqual([]);
  });
});
