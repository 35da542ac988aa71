/**
 * A real disk on its whole way: a Debian-like root file system in a partition, as a compressed qcow2 image by qemu-img,
 * becomes a vvd disk, a snapshot, a linked clone that is written to, and a raw disk again. What e2fsck and a
 * comparison file by file say of the end is what counts.
 */
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { DiskImage } from '../../src/image/index.ts';
import { requireTool } from '../reference-tools.ts';
import { changeExt4, checkExt4, linksOf, makeExt4Disk, readExt4 } from './ext4-disk.ts';
import { run, vimg } from './programs.ts';
import { listTree, makeRootTree, type TreeEntry } from './root-tree.ts';

const MiB = 1024 * 1024;
const DISK_SIZE = 192 * MiB;
const BLOCK = 4096;
const ZEROES = Buffer.alloc(BLOCK);
const TOOLS = ['qemu-img', 'mke2fs', 'e2fsck', 'debugfs', 'sfdisk'];

let folder = '';
let cleanup = async (): Promise<void> => undefined;

beforeAll(async () => {
  const made = await dir({ prefix: 'vimg-e2e-', unsafeCleanup: true });
  folder = made.path;
  cleanup = made.cleanup;
});
afterAll(() => cleanup());

describe.skipIf(requireTool(...TOOLS))('a real disk', () => {
  test('goes qcow2 → vvd → snapshot → linked clone → changes → raw, and every file is right', async () => {
    makeRootTree(join(folder, 'tree'));
    await makeExt4Disk(folder, 'source.raw', DISK_SIZE, 'tree');
    const zstd = ['-c', '-O', 'qcow2', '-o', 'compression_type=zstd'];
    await run(folder, 'qemu-img', 'convert', '-f', 'raw', ...zstd, 'source.raw', 'source.qcow2');

    await vimg(folder, 'convert', 'source.qcow2', 'disk.vvd');
    await vimg(folder, 'snapshot', '-c', 'installed', 'disk.vvd');
    await vimg(folder, 'clone', 'disk.vvd@installed', 'clone.vvd');
    await changeDisk('clone.vvd', 1);
    await changeDisk('disk.vvd', 2);
    for (const disk of ['disk.vvd', 'clone.vvd']) await vimg(folder, 'check', disk);

    await vimg(folder, 'convert', 'disk.vvd@installed', '-O', 'raw', 'installed.raw');
    await expectIdentical(['source.qcow2', 'qcow2'], ['installed.raw', 'raw']);
    await expectFiles('clone.vvd', listTree(join(folder, 'tree-1')));
    await expectFiles('disk.vvd', listTree(join(folder, 'tree-2')));
  }, 180_000);
});

/** A changed disk, as vimg gives it in the end, is sound and holds these files. */
async function expectFiles(disk: string, expected: Map<string, TreeEntry>): Promise<void> {
  await vimg(folder, 'convert', disk, '-O', 'raw', 'final.raw');
  await checkExt4(folder, 'final.raw');
  const table = async (name: string): Promise<string> =>
    (await run(folder, 'sfdisk', '--dump', name)).stdout.replaceAll(name, 'disk');
  expect(await table('final.raw')).toBe(await table('source.raw'));
  await readExt4(folder, 'final.raw', 'found');
  const found = listTree(join(folder, 'found'));
  expect([...found.keys()]).toEqual([...expected.keys()]);
  expect(found).toEqual(expected);
  const [inode, links] = await linksOf(folder, 'final.raw', '/home/noise');
  expect(links).toBe(2);
  expect(await linksOf(folder, 'final.raw', '/home/noise-again')).toEqual([inode, 2]);
  for (const name of ['final.raw', 'found']) rmSync(join(folder, name), { recursive: true });
}

async function expectIdentical(first: [string, string], second: [string, string]): Promise<void> {
  const formatsOfBoth = ['-f', first[1], '-F', second[1]];
  const { stdout } = await run(folder, 'qemu-img', 'compare', ...formatsOfBoth, first[0], second[0]);
  expect(stdout).toBe('Images are identical.\n');
}

/**
 * Changes files on a disk as a guest would: e2fsprogs change a raw copy, and every block that came out different is
 * written through vimg. The same changes are made to a copy of the tree: `tree-N`.
 */
async function changeDisk(disk: string, seed: number): Promise<void> {
  const tree = join(folder, `tree-${seed}`);
  cpSync(join(folder, 'tree'), tree, { recursive: true, verbatimSymlinks: true });
  await vimg(folder, 'convert', disk, '-O', 'raw', 'before.raw');
  await vimg(folder, 'convert', disk, '-O', 'raw', 'after.raw');
  await changeExt4(folder, 'after.raw', planChanges(tree, new SeededRandom(seed)));
  await checkExt4(folder, 'after.raw');
  const written = await writeDifferences(join(folder, disk), seed);
  expect(written).toBeGreaterThan(4 * MiB);
  await vimg(folder, 'convert', disk, '-O', 'raw', 'before.raw');
  await expectIdentical(['before.raw', 'raw'], ['after.raw', 'raw']);
}

/** Removes, replaces and adds files in `tree`. @returns the same as commands of debugfs */
function planChanges(tree: string, random: SeededRandom): string[] {
  const commands: string[] = [];
  const plain = [...listTree(tree)].filter(
    ([name, { kind }]) => kind === 'file' && /^[\w./-]+$/.test(name) && !name.startsWith('home/'),
  );
  for (let i = 0; i < 60; i++) {
    const [[name = ''] = []] = plain.splice(random.below(plain.length), 1);
    commands.push(`rm /${name}`);
    rmSync(join(tree, name));
  }
  mkdirSync(join(tree, 'srv/made'), { recursive: true });
  commands.push('mkdir /srv', 'mkdir /srv/made', 'cd /srv/made');
  for (const [i, size] of [0, 1, 4096, 100_000, 6 * MiB + 7].entries()) {
    const name = `srv/made/new-${i}`;
    writeFileSync(join(tree, name), random.bytes(size), { mode: 0o640 });
    commands.push(`write ${join(tree, name)} new-${i}`);
  }
  symlinkSync('new-1', join(tree, 'srv/made/link'));
  commands.push('symlink link new-1');
  return commands;
}

/** Writes every block of `after.raw` that is not as in `before.raw`. @returns bytes written */
async function writeDifferences(path: string, seed: number): Promise<number> {
  const random = new SeededRandom(seed);
  const [before, after] = ['before.raw', 'after.raw'].map((name) => openSync(join(folder, name), 'r'));
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  const [old, now] = [Buffer.alloc(MiB), Buffer.alloc(MiB)];
  let written = 0;
  for (let chunk = 0; chunk < DISK_SIZE; chunk += MiB) {
    readSync(before as number, old, 0, MiB, chunk);
    readSync(after as number, now, 0, MiB, chunk);
    for (let at = 0; at < MiB; at += BLOCK) {
      const block = now.subarray(at, at + BLOCK);
      if (block.equals(old.subarray(at, at + BLOCK))) continue;
      if (block.equals(ZEROES)) await disk.writeZeroes(chunk + at, BLOCK);
      else await disk.pwrite(block, chunk + at);
      if (random.oneIn(200)) await disk.flush();
      written += BLOCK;
    }
  }
  await disk.close();
  for (const fd of [before, after]) closeSync(fd as number);
  return written;
}
