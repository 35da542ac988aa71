/** Both ways with qemu-img: it checks and compares what we write, and counts what it measures as we do. */
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { FileDevice } from '../../../src/device/file-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { OptionValues } from '../../../src/image/format-driver.ts';
import { requireTool } from '../../reference-tools.ts';
import { writeRandomImage } from './random-image.ts';

const K = 1024;
let folder = '';
let cleanup = async (): Promise<void> => undefined;

beforeAll(async () => {
  const made = await dir({ prefix: 'vimg-qcow2-', unsafeCleanup: true });
  folder = made.path;
  cleanup = made.cleanup;
});
afterAll(() => cleanup());

function qemuImg(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync('qemu-img', args, { cwd: folder, encoding: 'utf8' });
  return { status, stdout, stderr };
}

const WRITTEN: readonly {
  readonly name: string;
  readonly virtualSize: number;
  readonly options: OptionValues;
}[] = [
  { name: 'defaults', virtualSize: 2048 * K, options: {} },
  { name: 'an odd size', virtualSize: 1000 * K + 512, options: {} },
  { name: 'clusters of 512 bytes', virtualSize: 300 * K, options: { cluster_size: 512 } },
  {
    name: 'clusters of 2 MiB, zstd',
    virtualSize: 7000 * K,
    options: { cluster_size: 2048 * K, compression_type: 'zstd' },
  },
  { name: 'version 2', virtualSize: 900 * K, options: { compat: '0.10', cluster_size: 4096 } },
  { name: 'extended L2', virtualSize: 2000 * K, options: { extended_l2: true, cluster_size: 16384 } },
  { name: 'zstd', virtualSize: 1500 * K, options: { compression_type: 'zstd', lazy_refcounts: true } },
  { name: 'refcounts of 1 bit', virtualSize: 400 * K, options: { refcount_bits: 1, cluster_size: 1024 } },
  { name: 'refcounts of 2 bits', virtualSize: 400 * K, options: { refcount_bits: 2, cluster_size: 4096 } },
  { name: 'refcounts of 64 bits', virtualSize: 400 * K, options: { refcount_bits: 64, cluster_size: 1024 } },
];

describe.skipIf(requireTool('qemu-img'))('qemu-img', () => {
  test.each(WRITTEN)(
    'finds what we write sound and identical: $name',
    async ({ name, virtualSize, options }) => {
      const stem = name.replaceAll(/[^a-z0-9]/gi, '-');
      for (const withBacking of [false, true]) {
        const image = `${stem}-${withBacking}.qcow2`;
        const file = await FileDevice.open(join(folder, image), { create: 'exclusive' });
        const behind = new SeededRandom(9).fill(new Uint8Array(virtualSize - 512));
        await writeFile(join(folder, `${stem}-behind.raw`), behind);
        const backing = { path: `${stem}-behind.raw`, format: 'raw', content: behind };
        const random = { seed: 11, virtualSize, options, ...(withBacking ? { backing } : {}) };
        const content = await writeRandomImage(file, random);
        await file.close();
        await writeFile(join(folder, 'expected.raw'), content);
        const check = qemuImg('check', '-f', 'qcow2', '--output=json', image);
        expect(check).toMatchObject({ status: 0, stderr: '' });
        expect(JSON.parse(check.stdout)).toMatchObject({ 'check-errors': 0 });
        const compare = qemuImg('compare', '-f', 'qcow2', '-F', 'raw', image, 'expected.raw');
        expect(compare).toMatchObject({ status: 0, stdout: 'Images are identical.\n' });
      }
    },
  );

  test.each(['zlib', 'zstd'])('compresses as well as we do: %s', async (type) => {
    const source = new SeededRandom(3).fill(new Uint8Array(1024 * K));
    for (let at = 0; at < source.length; at += 3) source[at] = 0x20;
    await writeFile(join(folder, 'source.raw'), source);
    execFileSync(
      'qemu-img',
      [
        'convert',
        '-c',
        '-O',
        'qcow2',
        '-o',
        `compression_type=${type}`,
        'source.raw',
        `theirs-${type}.qcow2`,
      ],
      { cwd: folder },
    );
    const file = MemoryDevice.create(0);
    const writer = await qcow2Driver.startWriter?.(file, {
      virtualSize: source.length,
      options: { compression_type: type },
      gate: () => Promise.reject(new TypeError('nothing is opened')),
    });
    for (let at = 0; at < source.length; at += 65536)
      await writer?.writeCompressed?.(at, source.subarray(at, at + 65536));
    await writer?.finish();
    const theirs = await FileDevice.open(join(folder, `theirs-${type}.qcow2`), {
      readOnly: true,
      lock: 'none',
    });
    const [ourSizes, theirSizes] = [await storedSizes(file), await storedSizes(theirs)];
    await theirs.close();
    expect(Math.abs(1 - sum(ourSizes) / sum(theirSizes))).toBeLessThan(0.05);
  });

  const MEASURED: readonly (readonly [string, OptionValues])[] = [
    ['', {}],
    ['compat=0.10', { compat: '0.10' }],
    ['cluster_size=512', { cluster_size: 512 }],
    ['cluster_size=2M', { cluster_size: 2048 * K }],
    ['extended_l2=on', { extended_l2: true }],
    ['refcount_bits=1', { refcount_bits: 1 }],
    ['refcount_bits=64,cluster_size=4k', { refcount_bits: 64, cluster_size: 4096 }],
  ];
  test.each(MEASURED)('measures sizes as we do: %s', (text, options) => {
    for (const size of [0, 512, 65536, 1000 * K, 2 ** 30, 5 * 2 ** 30 + 512]) {
      const args = [
        'measure',
        '-O',
        'qcow2',
        '--output=json',
        '--size',
        String(size),
        ...(text === '' ? [] : ['-o', text]),
      ];
      const theirs = JSON.parse(qemuImg(...args).stdout) as Record<string, number>;
      expect(qcow2Driver.measure?.(size, 0, options)).toEqual({
        required: theirs['required'],
        fullyAllocated: theirs['fully-allocated'],
      });
    }
  });

  test('measures an image with data as we do', async () => {
    const raw = new Uint8Array(4096 * K);
    for (const at of [0, 1024 * K, 1088 * K, 3000 * K]) raw.fill(1, at, at + 5000);
    await writeFile(join(folder, 'measured.raw'), raw);
    qemuImg('convert', '-O', 'qcow2', 'measured.raw', 'measured.qcow2');
    const theirs = JSON.parse(
      qemuImg('measure', '-O', 'qcow2', '--output=json', 'measured.qcow2').stdout,
    ) as Record<string, number>;
    expect(qcow2Driver.measure?.(raw.length, 4 * 65536, {})).toMatchObject({ required: theirs['required'] });
  });
});

/** Bytes stored for each compressed unit. */
async function storedSizes(file: MemoryDevice | FileDevice): Promise<number[]> {
  const layer = await qcow2Driver.open(file, {
    readOnly: true,
    gate: () => Promise.reject(new TypeError('no')),
  });
  const { Location } = await import('../../../src/image/layer.ts');
  const sizes: number[] = [];
  for (let at = 0; at < layer.virtualSize; at += layer.unit) {
    const location = new Location();
    await layer.locate(at, 1, location);
    sizes.push(location.storedLength);
  }
  return sizes;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
