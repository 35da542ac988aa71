import {
  chmodSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { FaultDevice } from '../../src/device/fault-device.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import type { OptionValues } from '../../src/image/format-driver.ts';
import { compareDisks } from '../../src/job/compare.ts';
import { type ConvertOptions, type ConvertTarget, convertDisk } from '../../src/job/convert.ts';
import { diskUsage } from '../../src/job/disk-usage.ts';
import { measureImage } from '../../src/job/measure.ts';

const MiB = 1024 * 1024;
const SIZE = 12 * MiB + 1536;

let folder: DirectoryResult;
let source: MemoryDevice;

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-convert' });
  source = sample(1);
});

afterEach(() => folder.cleanup());

/** A disk with data of every kind: long, short, compressible, written zeroes, holes, and up to its end. */
function sample(seed: number): MemoryDevice {
  const random = new SeededRandom(seed);
  const device = MemoryDevice.create(SIZE);
  device.pwrite(random.fill(new Uint8Array(700_000)), 100_000);
  device.pwrite(Buffer.alloc(900_000, 'text'), 3 * MiB + 512);
  device.pwrite(new Uint8Array(400_000), 5 * MiB);
  for (let i = 0; i < 60; i++)
    device.pwrite(random.fill(new Uint8Array(512)), 6 * MiB + random.below(8000) * 512);
  device.pwrite(random.fill(new Uint8Array(5000)), SIZE - 5000);
  return device;
}

function path(name: string): string {
  return join(folder.path, name);
}

function convert(
  device: BlockDevice,
  target: ConvertTarget,
  more: Partial<ConvertOptions> = {},
): Promise<unknown> {
  return convertDisk(device, target, { formats, durable: false, ...more });
}

async function expectSame(file: string, device: BlockDevice, format?: string): Promise<void> {
  const disk = await DiskImage.open(path(file), { formats, format });
  try {
    expect(await compareDisks(disk, device)).toEqual({ identical: true, sizesDiffer: false });
  } finally {
    await disk.close();
  }
}

const TARGETS: readonly (readonly [string, OptionValues, Partial<ConvertOptions>])[] = [
  ['raw', {}, {}],
  ['raw', {}, { sparseSize: 0 }],
  ['raw', { preallocation: 'full' }, {}],
  ['vvd', {}, {}],
  ['vvd', {}, { unordered: true, parallel: 8 }],
  ['vvd', { block_size: 65536 }, { parallel: 1 }],
  ['vvd', { block_size: 4 * MiB, provisioning: 'thick' }, { sparseSize: 65536 }],
  ['vvd', { compression: 'zstd' }, { compress: true }],
  ['vvd', { compression: 'deflate', block_size: MiB }, { compress: true }],
  ['vvd', {}, { seal: true }],
  ['qcow2', {}, {}],
  ['qcow2', { cluster_size: 512 }, {}],
  ['qcow2', { cluster_size: 2 * MiB }, { unordered: true }],
  ['qcow2', { compat: '0.10' }, { sparseSize: 0 }],
  ['qcow2', { extended_l2: true }, {}],
  ['qcow2', {}, { compress: true }],
  ['qcow2', { compression_type: 'zstd' }, { compress: true, durable: true }],
];

describe('convertDisk', () => {
  it.each(TARGETS)('to %s %o %o and back', async (format, options, more) => {
    await convert(source, { path: path('t'), format, options }, more);
    await expectSame('t', source, format);
    expect(readdirSync(folder.path)).toEqual(['t']);
    const disk = await DiskImage.open(path('t'), { formats, format });
    try {
      await convert(disk, { path: path('back'), format: 'raw' });
    } finally {
      await disk.close();
    }
    await expectSame('back', source, 'raw');
  });

  it('keeps holes', async () => {
    await convert(source, { path: path('t'), format: 'raw' });
    expect(statSync(path('t')).size).toBe(SIZE);
    expect(statSync(path('t')).blocks * 512).toBeLessThan(3 * MiB);
  });

  it.each(['vvd', 'qcow2'])('on a backing file, to %s: only what differs is stored', async (format) => {
    const base = sample(2);
    await convert(base, { path: path('base'), format: 'qcow2' });
    const backing = { path: 'base', format: 'qcow2' };
    await convert(source, { path: path('t'), format, backing });
    await expectSame('t', source);
    await convert(base, { path: path('same'), format, backing });
    const disk = await DiskImage.open(path('same'), { formats });
    try {
      const [own] = (await diskUsage(disk)).layers;
      expect(own?.liveBytes).toBe(0);
    } finally {
      await disk.close();
    }
  });

  it('into an image that holds something else', async () => {
    for (const format of ['vvd', 'raw']) {
      await convert(sample(3), { path: path(format), format });
      await convert(source, { path: path(format), format, existing: true });
      await expectSame(format, source, format);
    }
    await convert(MemoryDevice.create(MiB), { path: path('small'), format: 'vvd' });
    await expect(
      convert(source, { path: path('small'), format: 'vvd', existing: true }),
    ).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('leaves nothing behind when the source cannot be read, and the old file as it was', async () => {
    writeFileSync(path('t'), 'old');
    for (const format of ['raw', 'vvd', 'qcow2']) {
      const bad = new FaultDevice(source, [{ on: 'read', at: 3, sticky: true }]);
      await expect(convert(bad, { path: path('t'), format })).rejects.toMatchObject({ code: 'IO' });
    }
    expect(readdirSync(folder.path)).toEqual(['t']);
    expect(readFileSync(path('t'), 'utf8')).toBe('old');
  });

  it('leaves nothing behind when it is cancelled', async () => {
    for (const format of ['raw', 'vvd', 'qcow2']) {
      const controller = new AbortController();
      const onProgress = ({ phase }: { phase: string }): void => {
        if (phase === 'copying') controller.abort();
      };
      await expect(
        convert(source, { path: path('t'), format }, { signal: controller.signal, onProgress }),
      ).rejects.toMatchObject({ code: 'CANCELLED' });
    }
    expect(readdirSync(folder.path)).toEqual([]);
  });

  it('keeps mode and link of the file that it replaces', async () => {
    writeFileSync(path('old'), 'old');
    chmodSync(path('old'), 0o600);
    symlinkSync('old', path('link'));
    await convert(source, { path: path('link'), format: 'raw' });
    expect(readdirSync(folder.path).sort()).toEqual(['link', 'old']);
    expect(statSync(path('old')).mode & 0o777).toBe(0o600);
    await expectSame('old', source, 'raw');
  });

  it('does not replace an image that is in use, nor one it reads', async () => {
    await convert(source, { path: path('t'), format: 'vvd' });
    const disk = await DiskImage.open(path('t'), { formats });
    try {
      await expect(convert(source, { path: path('t'), format: 'raw' })).rejects.toMatchObject({
        code: 'LOCKED',
      });
      await expect(convert(disk, { path: path('t'), format: 'raw' })).rejects.toMatchObject({
        code: 'USAGE',
      });
    } finally {
      await disk.close();
    }
    await expectSame('t', source);
  });

  it('tells the target, not the temporary file, when it cannot be made', async () => {
    const missing = path('missing/t');
    for (const format of ['raw', 'vvd', 'qcow2']) {
      await expect(convert(source, { path: missing, format })).rejects.toMatchObject({ path: missing });
    }
  });

  it('reports bytes really to be moved', async () => {
    const totals = new Set<number>();
    const phases = new Set<string>();
    await convert(
      source,
      { path: path('t'), format: 'qcow2' },
      {
        durable: true,
        onProgress: (report) => {
          phases.add(report.phase);
          if (report.phase === 'copying') totals.add(report.bytesTotal);
        },
      },
    );
    expect([...phases]).toEqual(['mapping', 'copying', 'flushing', 'done']);
    expect([...totals][0]).toBeLessThan(4 * MiB);
  });

  it('fails when a raw source is cut while it is read', async () => {
    writeFileSync(path('source'), Buffer.alloc(8 * MiB, 1));
    const file = await FileDevice.open(path('source'), { readOnly: true });
    try {
      truncateSync(path('source'), MiB);
      await expect(convert(file, { path: path('t'), format: 'vvd' })).rejects.toMatchObject({ code: 'IO' });
    } finally {
      await file.close();
    }
    expect(readdirSync(folder.path)).toEqual(['source']);
  });
});

describe('measureImage', () => {
  it('tells the size of what convert makes', async () => {
    for (const [format, options] of [
      ['qcow2', {}],
      ['qcow2', { cluster_size: 4096 }],
      ['raw', {}],
    ] as const) {
      await convert(source, { path: path('t'), format, options }, { sparseSize: 512 });
      const measured = await measureImage(source, formats.get(format), options);
      expect(statSync(path('t')).size).toBeLessThanOrEqual(measured.required);
      expect(measured.fullyAllocated).toBeGreaterThanOrEqual(measured.required);
    }
  });
});
