/** What the writer writes, our own reader reads and our own check finds sound. qemu-img's opinion: interop.test.ts. */
import { describe, expect, test } from 'vitest';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { readHeader } from '../../../formats/qcow2/header.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import type { BlockDevice } from '../../../src/device/block-device.ts';
import { CountDevice } from '../../../src/device/count-device.ts';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { ForwardingDevice } from '../../../src/device/forwarding-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { CreateLayerOptions, OptionValues } from '../../../src/image/format-driver.ts';
import { DATA, Location } from '../../../src/image/layer.ts';
import { noGate, readLayer, readWhole } from './layer-reader.ts';
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

/** A device that answers reads and writes in a later tick. */
class LateDevice extends ForwardingDevice {
  override async pread(buffer: Uint8Array, offset: number): Promise<void> {
    await Promise.resolve();
    await super.pread(buffer, offset);
  }

  override async pwrite(buffer: Uint8Array, offset: number): Promise<void> {
    await Promise.resolve();
    await super.pwrite(buffer, offset);
  }
}

async function expectSound(file: BlockDevice): Promise<void> {
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

describe('many tables', () => {
  const clusterSize = 2048 * K;
  /** Guest bytes of one L2 table; sixteen tables fit into memory. */
  const span = 2 ** 39;
  const tables = 40;

  test('that do not fit into memory are written out and read again', async () => {
    const file = new CountDevice(MemoryDevice.create(0));
    const options = { cluster_size: clusterSize };
    const writer = await qcow2Driver.startWriter?.(file, { ...creation(tables * span, options) });
    const random = new SeededRandom(8);
    const written = new Map<number, number>();
    for (let round = 0; round < 3; round++) {
      const places = Array.from(
        { length: tables },
        (_, table) => table * span + (round * 1000 + random.below(900)) * clusterSize,
      );
      await Promise.all(
        places.map((place, index) => {
          written.set(place, index + 1);
          return writer?.write(place, new Uint8Array(512).fill(index + 1));
        }),
      );
    }
    await writer?.finish();
    expect(file.counts.read.operations).toBeGreaterThan(tables);
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    const sector = new Uint8Array(512);
    for (const [place, value] of written) {
      await readLayer(layer, sector, place);
      expect(sector.every((byte) => byte === value)).toBe(true);
    }
    await expectSound(file);
  });

  test('front to back none is read again', async () => {
    const file = new CountDevice(new LateDevice(MemoryDevice.create(0)));
    const options = { cluster_size: clusterSize };
    const writer = await qcow2Driver.startWriter?.(file, { ...creation(tables * span, options) });
    for (let table = 0; table < tables; table++)
      await writer?.write(table * span, new Uint8Array(512).fill(1));
    await writer?.finish();
    expect(file.counts.read.operations).toBe(0);
    await expectSound(file);
  });
});

describe('how data is laid out', () => {
  test('in a row, in few and large writes', async () => {
    const file = new CountDevice(MemoryDevice.create(0));
    const writer = await qcow2Driver.startWriter?.(file, creation(64 * 1024 * K));
    const piece = new Uint8Array(64 * K).fill(3);
    for (let at = 0; at < 64 * 1024 * K; at += piece.length) await writer?.write(at, piece);
    await writer?.finish();
    expect(file.counts.write.operations).toBeLessThan(80);
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    const location = new Location();
    await layer.locate(0, 64 * 1024 * K, location);
    expect(location).toMatchObject({ kind: DATA, length: 64 * 1024 * K });
  });

  test('compressed units one behind the other, as far as refcounts go', async () => {
    for (const [bits, clusters] of [
      [16, 1],
      [2, 22],
      [1, 64],
    ] as const) {
      const file = MemoryDevice.create(0);
      const writer = await qcow2Driver.startWriter?.(file, creation(64 * 64 * K, { refcount_bits: bits }));
      const unit = new Uint8Array(64 * K).fill(5);
      await Promise.all(
        Array.from({ length: 64 }, (_, index) => writer?.writeCompressed?.(index * 64 * K, unit)),
      );
      await writer?.finish();
      await expectSound(file);
      // The header, one L2 table, the L1 table, the refcount table and a refcount block stand beside the data.
      expect(file.size / (64 * K) - 5).toBe(clusters);
    }
  });

  test('compressed units keep the order of the calls', async () => {
    const images = [MemoryDevice.create(0), MemoryDevice.create(0)];
    for (const file of images) {
      const writer = await qcow2Driver.startWriter?.(file, creation(40 * 64 * K));
      const units = Array.from({ length: 40 }, (_, index) =>
        new SeededRandom(index % 3).fill(new Uint8Array(64 * K)).fill(0, index * 999),
      );
      await Promise.all(units.map((unit, index) => writer?.writeCompressed?.(index * 64 * K, unit)));
      await writer?.finish();
    }
    expect(
      Buffer.compare(images[0]?.snapshot() ?? new Uint8Array(0), images[1]?.snapshot() ?? new Uint8Array(1)),
    ).toBe(0);
  });
});

describe('a write that fails', () => {
  test.each([1, 2, 5, 9])('(write %i) is told, at the latest by finish', async (at) => {
    const file = new FaultDevice(new LateDevice(MemoryDevice.create(0)), [
      { on: 'write', at, error: 'ENOSPC', sticky: true },
    ]);
    const writer = await qcow2Driver.startWriter?.(file, creation(16 * 1024 * K));
    const write = async (): Promise<void> => {
      for (let offset = 0; offset < 16 * 1024 * K; offset += 64 * K) {
        const unit = new Uint8Array(64 * K).fill(offset / 65536);
        await (offset % 3 === 0 ? writer?.writeCompressed?.(offset, unit) : writer?.write(offset, unit));
      }
      await writer?.finish();
    };
    await expect(write()).rejects.toMatchObject({ code: 'NO_SPACE' });
    await expect(readHeader(file)).rejects.toMatchObject({ code: 'INVALID_FORMAT' });
  });
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
