/** What the writer writes, our own reader reads and our own check finds sound. qemu-img's opinion: interop.test.ts. */
import { describe, expect, test } from 'vitest';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { readHeader } from '../../../formats/qcow2/header.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { CreateLayerOptions, OptionValues } from '../../../src/image/format-driver.ts';
import { noGate, readWhole } from './layer-reader.ts';
import { writeRandomImage } from './random-image.ts';

const K = 1024;

const SHAPES: readonly {
  readonly name: string;
  readonly virtualSize: number;
  readonly options: OptionValues;
}[] = [
  { name: 'defaults', virtualSize: 2048 * K, options: {} },
  { name: 'a size that is no multiple of the cluster', virtualSize: 1000 * K + 512, options: {} },
  { name: 'clusters of 512 bytes', virtualSize: 300 * K, options: { cluster_size: 512 } },
  { name: 'clusters of 2 MiB', virtualSize: 7000 * K, options: { cluster_size: 2048 * K } },
  { name: 'version 2', virtualSize: 900 * K, options: { compat: '0.10', cluster_size: 4096 } },
  { name: 'extended L2', virtualSize: 2000 * K, options: { extended_l2: true, cluster_size: 16384 } },
  { name: 'zstd', virtualSize: 1500 * K, options: { compression_type: 'zstd' } },
  { name: 'lazy refcounts', virtualSize: 500 * K, options: { lazy_refcounts: true, cluster_size: 8192 } },
  ...[1, 2, 4, 8, 32, 64].map((bits) => ({
    name: `refcounts of ${bits} bits`,
    virtualSize: 400 * K,
    options: { refcount_bits: bits, cluster_size: 1024 },
  })),
];

async function expectSound(file: MemoryDevice): Promise<void> {
  const report = await qcow2Driver.check?.(file, {});
  expect(report?.findings).toEqual([]);
  expect(report).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
}

describe.each(SHAPES)('$name', ({ virtualSize, options }) => {
  test.each([1, 2, 3])('random content is read back (seed %i)', async (seed) => {
    const file = MemoryDevice.create(0);
    const content = await writeRandomImage(file, { seed, virtualSize, options });
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    expect(Buffer.compare(await readWhole(layer), content)).toBe(0);
    await expectSound(file);
  });

  test('over a backing file, zeroes hide it', async () => {
    const behind = new Uint8Array(virtualSize - 700).fill(0xbb);
    const file = MemoryDevice.create(0);
    const backing = { path: 'b.raw', format: 'raw', content: behind };
    const content = await writeRandomImage(file, { seed: 4, virtualSize, options, backing });
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    expect(layer.backing).toMatchObject({ path: 'b.raw', format: 'raw', byIdentity: false });
    expect(Buffer.compare(await readWhole(layer, MemoryDevice.from(behind)), content)).toBe(0);
    await expectSound(file);
  });
});

test('old bytes of a target of fixed size do not show through', async () => {
  const file = MemoryDevice.from(new Uint8Array(4096 * K).fill(0xee), { growable: false });
  const content = await writeRandomImage(file, {
    seed: 5,
    virtualSize: 900 * K,
    options: {},
    compress: false,
  });
  const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
  expect(Buffer.compare(await readWhole(layer), content)).toBe(0);
});

test('a target of fixed size that is too small is NO_SPACE', async () => {
  const file = MemoryDevice.create(300 * K, { growable: false });
  const writing = writeRandomImage(file, { seed: 6, virtualSize: 900 * K, options: {}, compress: false });
  await expect(writing).rejects.toMatchObject({ code: 'NO_SPACE' });
});

test('an empty image of each size', async () => {
  for (const virtualSize of [0, 512, 64 * K, 2 ** 40, 2 ** 44]) {
    const file = MemoryDevice.create(0);
    await qcow2Driver.create?.(file, creation(virtualSize));
    expect((await readHeader(file)).virtualSize).toBe(virtualSize);
    await expectSound(file);
  }
});

test('until it is finished the file is no qcow2 image', async () => {
  const file = MemoryDevice.create(0);
  const writer = await qcow2Driver.startWriter?.(file, creation(1024 * K));
  await writer?.write(0, new Uint8Array(1024 * K).fill(1));
  await expect(readHeader(file)).rejects.toMatchObject({ code: 'INVALID_FORMAT' });
  await writer?.finish();
  expect((await readHeader(file)).virtualSize).toBe(1024 * K);
});

test('a long name of the backing file must fit the first cluster', async () => {
  const long = `${'d/'.repeat(200)}base.raw`;
  const backing = { path: long, format: 'raw', layer: undefined };
  const fits = MemoryDevice.create(0);
  await qcow2Driver.create?.(fits, { ...creation(64 * K), backing });
  expect((await readHeader(fits)).backing).toEqual({ path: long, format: 'raw' });
  const small = { ...creation(64 * K, { cluster_size: 512 }), backing };
  await expect(qcow2Driver.create?.(MemoryDevice.create(0), small)).rejects.toMatchObject({ code: 'USAGE' });
});

const WRONG: readonly (readonly [OptionValues, string])[] = [
  [{ cluster_size: 256 }, 'USAGE'],
  [{ cluster_size: 4096 * K }, 'USAGE'],
  [{ cluster_size: 3000 }, 'USAGE'],
  [{ compat: '2' }, 'USAGE'],
  [{ compat: '0.10', lazy_refcounts: true }, 'USAGE'],
  [{ compat: '0.10', compression_type: 'zstd' }, 'USAGE'],
  [{ compat: '0.10', refcount_bits: 8 }, 'USAGE'],
  [{ compat: 'v2', extended_l2: true }, 'USAGE'],
  [{ refcount_bits: 3 }, 'USAGE'],
  [{ extended_l2: true, cluster_size: 8192 }, 'USAGE'],
  [{ compression_type: 'lzma' }, 'USAGE'],
  [{ preallocation: 'full' }, 'UNSUPPORTED'],
  [{ cluster_siz: 4096 }, 'USAGE'],
];

test.each(WRONG)('options %j are refused with %s', async (options, code) => {
  await expect(qcow2Driver.create?.(MemoryDevice.create(0), creation(64 * K, options))).rejects.toMatchObject(
    { code },
  );
});

test('a disk too large for its cluster size is a LIMIT', async () => {
  const creating = qcow2Driver.create?.(MemoryDevice.create(0), creation(2 ** 38, { cluster_size: 512 }));
  await expect(creating).rejects.toMatchObject({ code: 'LIMIT' });
});

function creation(virtualSize: number, options: OptionValues = {}): CreateLayerOptions {
  return { virtualSize, options, gate: noGate };
}
