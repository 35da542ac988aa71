import {
  chmodSync,
  lstatSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { renameDurably, replaceFile, syncFolder, temporaryPath } from '../../src/host/atomic-file.ts';

let folder: { path: string; cleanup: () => Promise<void> };
let serial = 0;

beforeAll(async () => {
  folder = await dir({ prefix: 'vimg-atomic-file-', unsafeCleanup: true });
});
afterAll(() => folder.cleanup());

function newPath(): string {
  return join(folder.path, `file-${serial++}`);
}

it('makes a new file, and replaces an old one', async () => {
  const path = newPath();
  await replaceFile(path, 'first');
  expect(statSync(path).mode & 0o777).toBe(0o644 & ~process.umask());
  const before = statSync(path).ino;
  await replaceFile(path, Buffer.from('second'));
  expect(readFileSync(path, 'utf8')).toBe('second');
  expect(statSync(path).ino).not.toBe(before);
});

it('keeps mode, owner and a symbolic link', async () => {
  const path = newPath();
  const link = newPath();
  writeFileSync(path, 'old');
  chmodSync(path, 0o640);
  symlinkSync(basename(path), link);
  await replaceFile(link, 'new');
  expect(lstatSync(link).isSymbolicLink()).toBe(true);
  expect(readFileSync(path, 'utf8')).toBe('new');
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(statSync(path).uid).toBe(process.getuid?.());
});

it('leaves nothing behind when it fails', async () => {
  const names = readdirSync(folder.path);
  await expect(replaceFile(folder.path, 'over a folder')).rejects.toMatchObject({ code: expect.any(String) });
  await expect(replaceFile(join(folder.path, 'none', 'file'), 'x')).rejects.toMatchObject({ code: 'ENOENT' });
  expect(readdirSync(folder.path)).toEqual(names);
  expect(readdirSync(dirname(folder.path)).filter((name) => name.includes(basename(folder.path)))).toEqual([
    basename(folder.path),
  ]);
});

it('names temporary files beside the target, within what a name can hold', () => {
  const first = temporaryPath('/a/disk.vvd');
  expect(dirname(first)).toBe('/a');
  expect(basename(first)).toMatch(new RegExp(`^\\.disk\\.vvd\\.${process.pid}-[0-9a-f]{8}\\.tmp$`));
  expect(temporaryPath('/a/disk.vvd')).not.toBe(first);
  for (const name of ['x'.repeat(255), 'ü'.repeat(127), '🌳'.repeat(63)]) {
    expect(Buffer.byteLength(basename(temporaryPath(join('/a', name))))).toBeLessThanOrEqual(255);
  }
});

it('renames over an existing name', async () => {
  const [from, to] = [newPath(), newPath()];
  writeFileSync(from, 'new');
  writeFileSync(to, 'old');
  await renameDurably(from, to);
  expect(readFileSync(to, 'utf8')).toBe('new');
  await syncFolder(folder.path);
  await expect(syncFolder(from)).rejects.toMatchObject({ code: 'ENOENT' });
});
