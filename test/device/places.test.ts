/** Files in mounted places: their paths, and every whole-file operation of a disk that lies in one. */
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import {
  folderOf,
  isBelow,
  isWholePath,
  joinPath,
  nameOf,
  relativePath,
  resolvePath,
} from '../../src/device/file-path.ts';
import { fileExists, listFolder, renameFile } from '../../src/device/files.ts';
import { filesOf, mountFiles, placeOf } from '../../src/device/mounts.ts';
import { chainOf, relocateChain } from '../../src/image/chain.ts';
import { linkedClone } from '../../src/image/clone.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { createSnapshot, deleteSnapshot, listSnapshots, revertSnapshot } from '../../src/image/snapshot.ts';
import { convertDisk } from '../../src/job/convert.ts';
import { MemoryFiles } from '../../src/testing/memory-files.ts';

const MiB = 1024 * 1024;
const context = { formats };
let unmount: (() => void)[];

beforeEach(async () => {
  unmount = [mountFiles('ds1', new MemoryFiles()), mountFiles('ds2', new MemoryFiles())];
  await filesOf('ds1:').makeFolder('ds1:vm1');
});
afterEach(() => {
  for (const end of unmount) end();
});

describe('paths', () => {
  it('are in a place when they start with its name', () => {
    expect(placeOf('ds1:a')).toBe('ds1');
    for (const path of ['ds9:a', './ds1:a', '/ds1:a', 'a/ds1:b', 'ds1', 'c:a']) {
      expect(placeOf(path), path).toBeUndefined();
    }
    expect(() => mountFiles('ds1', new MemoryFiles())).toThrow(expect.objectContaining({ code: 'EXISTS' }));
  });

  it('have folders and names, and never lead out of their place', () => {
    expect(folderOf('ds1:vm1/root.vvd')).toBe('ds1:vm1');
    expect(folderOf('ds1:root.vvd')).toBe('ds1:');
    expect(folderOf('ds1:')).toBe('ds1:');
    expect(folderOf('ds9:root.vvd')).toBe('.');
    expect(nameOf('ds1:root.vvd')).toBe('root.vvd');
    expect(joinPath('ds1:', 'a')).toBe('ds1:a');
    expect(resolvePath('ds1:vm1', '../a')).toBe('ds1:a');
    expect(resolvePath('ds1:vm1', '../../../etc/shadow')).toBe('ds1:etc/shadow');
    expect(resolvePath('ds1:vm1', '/etc/shadow')).toBe('/etc/shadow');
    expect(resolvePath('/srv', 'ds1:/vm1/./a')).toBe('ds1:vm1/a');
    expect(relativePath('ds1:vm1', 'ds1:base')).toBe('../base');
    expect(relativePath('ds1:vm1', 'ds2:base')).toBe('ds2:base');
    expect(relativePath('ds1:vm1', '/srv/base')).toBe('/srv/base');
    expect(isWholePath('ds1:a') && isWholePath('/a') && !isWholePath('a')).toBe(true);
    expect(isBelow('ds1:vm1/a', 'ds1:vm1') && isBelow('ds1:a', 'ds1:')).toBe(true);
    expect(isBelow('ds1:vm10/a', 'ds1:vm1') || isBelow('ds2:a', 'ds1:') || isBelow('/a', 'ds1:')).toBe(false);
  });
});

async function writeText(path: string, text: string): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  await disk.pwrite(Buffer.from(text), MiB);
  await disk.close();
}

async function readText(path: string, length: number, snapshot?: string): Promise<string> {
  const disk = await DiskImage.open(path, { formats, snapshot });
  const bytes = Buffer.alloc(length);
  await disk.pread(bytes, MiB);
  await disk.close();
  return bytes.toString();
}

describe('a disk in a place', () => {
  it('takes snapshots, goes back to them and deletes them', async () => {
    const disk = 'ds1:vm1/root.vvd';
    await createImage(disk, { formats, format: 'vvd', size: 8 * MiB });
    await writeText(disk, 'one');
    await createSnapshot([disk], 'a', context);
    await writeText(disk, 'two');
    await createSnapshot([disk], 'b', context);
    await writeText(disk, 'six');
    expect(await readText(disk, 3, 'a')).toBe('one');
    await revertSnapshot(disk, 'b', context);
    expect(await readText(disk, 3)).toBe('two');
    await deleteSnapshot(disk, 'a', context);
    expect((await listSnapshots(disk, context)).map(({ name }) => name)).toEqual(['b']);
    expect(await readText(disk, 3)).toBe('two');
    expect((await listFolder('ds1:vm1')).sort()).toEqual(['root.vvd', 'root@b.vvd']);
  });

  it('stands on one in another place, by name and identity', async () => {
    await createImage('ds2:base.vvd', { formats, format: 'vvd', size: 8 * MiB });
    await writeText('ds2:base.vvd', 'base');
    const { base } = await linkedClone('ds2:base.vvd', 'ds1:vm1/clone.vvd', context);
    expect(await readText('ds1:vm1/clone.vvd', 4)).toBe('base');
    const [, parent] = await chainOf('ds1:vm1/clone.vvd', context);
    expect(parent).toMatchObject({ path: base, state: 'ok' });
    await renameFile(base, 'ds2:moved.vvd');
    await expect(DiskImage.open('ds1:vm1/clone.vvd', { formats })).rejects.toMatchObject({
      code: 'STALE_PARENT',
    });
    await relocateChain('ds1:vm1/clone.vvd', ['ds2:'], context);
    expect(await readText('ds1:vm1/clone.vvd', 4)).toBe('base');
    await expect(
      deleteSnapshot('ds2:base.vvd', (await listSnapshots('ds2:base.vvd', context))[0]?.name ?? '', context),
    ).rejects.toMatchObject({ code: 'LOCKED' });
  });

  it('is copied to the host and back, and replaced in one step', async () => {
    await createImage('ds1:a.vvd', { formats, format: 'vvd', size: 8 * MiB });
    await writeText('ds1:a.vvd', 'hello');
    await withDir(
      async ({ path }) => {
        const there = join(path, 'a.qcow2');
        for (const [source, target, format] of [
          ['ds1:a.vvd', there, 'qcow2'],
          [there, 'ds2:b.vvd', 'vvd'],
          [there, 'ds2:b.vvd', 'vvd'],
        ] as const) {
          const disk = await DiskImage.open(source, { formats });
          await convertDisk(disk, { path: target, format }, { formats });
          await disk.close();
        }
        expect(await readText('ds2:b.vvd', 5)).toBe('hello');
        expect(await listFolder('ds2:')).toEqual(['b.vvd']);
        await expect(renameFile(there, 'ds2:c')).rejects.toMatchObject({ code: 'USAGE' });
        expect(await fileExists(there)).toBe(true);
      },
      { unsafeCleanup: true },
    );
  });

  it('leads through the gate to its own folder and to nothing else', async () => {
    await createImage('ds2:base.raw', { formats, format: 'raw', size: MiB });
    for (const stored of ['ds2:base.raw', '/etc/passwd', '../../../etc/passwd', 'ds9:base.raw']) {
      const backing = { path: stored, format: 'raw', unchecked: true };
      await createImage('ds1:vm1/x.qcow2', { formats, format: 'qcow2', size: MiB, backing });
      await expect(DiskImage.open('ds1:vm1/x.qcow2', { formats }), stored).rejects.toMatchObject({
        code: stored.startsWith('..') ? 'NOT_FOUND' : 'UNSUPPORTED',
      });
    }
    const backing = { path: 'ds2:base.raw', format: 'raw', unchecked: true };
    await createImage('ds1:vm1/x.qcow2', { formats, format: 'qcow2', size: MiB, backing });
    await (await DiskImage.open('ds1:vm1/x.qcow2', { formats, allow: ['ds2:'] })).close();
  });
});
