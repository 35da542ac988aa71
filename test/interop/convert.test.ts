/** Images that vimg makes, read by qemu-img, and the other way round; and random disks through vvd and back. */
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { requireTool } from '../reference-tools.ts';
import { runTool, runVimg, type Said } from './tools.ts';

const skip = requireTool('qemu-img', 'qemu-io');
const MiB = 1024 * 1024;

let folder: DirectoryResult;
let home: string;

beforeAll(async () => {
  home = process.cwd();
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-interop' });
  process.chdir(folder.path);
});

afterAll(async () => {
  process.chdir(home);
  await folder.cleanup();
});

/** A raw disk with data of several kinds in random places. */
function makeRaw(path: string, seed: number): void {
  const random = new SeededRandom(seed);
  const size = (1 + random.below(8192)) * 512;
  const fd = openSync(path, 'w');
  try {
    ftruncateSync(fd, size);
    for (let i = random.below(12); i > 0; i--) {
      const offset = random.below(size);
      const length = Math.min(1 + random.below(random.oneIn(3) ? MiB : 9000), size - offset);
      const data = new Uint8Array(length);
      if (random.oneIn(3)) data.fill(random.below(256));
      else if (!random.oneIn(4)) random.fill(data);
      writeSync(fd, data, 0, length, offset);
    }
  } finally {
    closeSync(fd);
  }
}

async function good(said: Promise<Said>): Promise<Said> {
  const { stdout, stderr, status } = await said;
  expect({ stdout: status === 0 ? '' : stdout, stderr, status }).toEqual({
    stdout: '',
    stderr: '',
    status: 0,
  });
  return { stdout, stderr, status };
}

const qemu = (...args: string[]): Promise<Said> => good(runTool('qemu-img', args));
const vimg = (...args: string[]): Promise<Said> => good(runVimg(args));

async function identical(rawPath: string, path: string, format: string): Promise<void> {
  await qemu('compare', '-f', 'raw', '-F', format, rawPath, path);
}

const QCOW2_OPTIONS: readonly (readonly string[])[] = [
  [],
  ['-c'],
  ['-o', 'cluster_size=512'],
  ['-o', 'cluster_size=2M'],
  ['-c', '-o', 'cluster_size=4k,compression_type=zstd'],
  ['-o', 'compat=0.10'],
  ['-o', 'extended_l2=on'],
  ['-o', 'refcount_bits=1'],
  ['-S', '0'],
  ['-S', '64k', '-W', '-m', '8'],
];

describe.skipIf(skip)('interop with qemu-img', () => {
  it.each(QCOW2_OPTIONS)('qcow2 that vimg makes: %s %s %s', async (...options: readonly string[]) => {
    for (const seed of [11, 12, 13]) {
      makeRaw('a.raw', seed);
      await vimg('convert', '-f', 'raw', '-O', 'qcow2', ...options, 'a.raw', 'a.qcow2');
      await qemu('check', 'a.qcow2');
      await identical('a.raw', 'a.qcow2', 'qcow2');
    }
  });

  it.each(QCOW2_OPTIONS)('qcow2 that qemu-img makes: %s %s %s', async (...options: readonly string[]) => {
    for (const seed of [21, 22, 23]) {
      makeRaw('b.raw', seed);
      await qemu('convert', '-f', 'raw', '-O', 'qcow2', ...options, 'b.raw', 'b.qcow2');
      await vimg('compare', '-f', 'raw', 'b.raw', 'b.qcow2');
      await vimg('check', '-q', 'b.qcow2');
      await vimg('convert', 'b.qcow2', 'b.vvd');
      await vimg('convert', 'b.vvd', 'back.raw');
      await identical('b.raw', 'back.raw', 'raw');
    }
  });

  it('an overlay that vimg makes stands on an image of qemu-img, and the other way round', async () => {
    makeRaw('base.raw', 31);
    makeRaw('c.raw', 32);
    await qemu('convert', '-f', 'raw', '-O', 'qcow2', 'base.raw', 'base.qcow2');
    await vimg(
      'convert',
      '-f',
      'raw',
      '-O',
      'qcow2',
      '-B',
      'base.qcow2',
      '-F',
      'qcow2',
      'c.raw',
      'over.qcow2',
    );
    await qemu('check', 'over.qcow2');
    await identical('c.raw', 'over.qcow2', 'qcow2');
    await vimg('convert', '-O', 'qcow2', 'base.qcow2', 'base2.qcow2');
    await qemu('create', '-q', '-f', 'qcow2', '-b', 'base2.qcow2', '-F', 'qcow2', 'over2.qcow2');
    await good(runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 9 0 512', 'over2.qcow2']));
    await qemu('convert', '-O', 'raw', 'over2.qcow2', 'theirs.raw');
    await vimg('compare', '-f', 'raw', 'theirs.raw', 'over2.qcow2');
  });

  it('a disk that vimg creates is written by qemu-io, checked by both', async () => {
    await vimg('create', '-q', '-f', 'qcow2', 'new.qcow2', '64M');
    await good(runTool('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 7 1M 3M', 'new.qcow2']));
    await qemu('check', 'new.qcow2');
    await vimg('check', '-q', 'new.qcow2');
    await qemu('convert', '-O', 'raw', 'new.qcow2', 'new.raw');
    await vimg('compare', '-f', 'raw', 'new.raw', 'new.qcow2');
  });

  it('random disks go to vvd and back, and qemu-img finds all of them identical', async () => {
    const compared: Promise<void>[] = [];
    for (let seed = 1000; seed < 1040; seed++) {
      const [raw, vvd, back] = [`${seed}.raw`, `${seed}.vvd`, `${seed}.back`] as const;
      makeRaw(raw, seed);
      const compress = seed % 3 === 0 ? ['-c'] : [];
      await vimg('convert', '-t', 'unsafe', '-f', 'raw', ...compress, raw, vvd);
      await vimg('convert', '-t', 'unsafe', '-O', seed % 2 === 0 ? 'raw' : 'qcow2', vvd, back);
      rmSync(vvd);
      compared.push(
        identical(raw, back, seed % 2 === 0 ? 'raw' : 'qcow2').then(() => {
          rmSync(raw);
          rmSync(back);
        }),
      );
      if (compared.length % 4 === 0) await Promise.all(compared);
    }
    await Promise.all(compared);
    expect(compared).toHaveLength(40);
  });
});
