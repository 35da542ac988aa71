/** What a copy leaves in the host's cache, as util-linux' fincore sees it; and copies that the kernel makes. */
import { execFileSync } from 'node:child_process';
import { readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { FileDevice } from '../../src/device/file-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { compareDisks } from '../../src/job/compare.ts';
import { type ConvertOptions, convertDisk } from '../../src/job/convert.ts';
import { requireTool } from '../reference-tools.ts';

const MiB = 1024 * 1024;
const SIZE = 8 * MiB;
/** statfs(2): files of a tmpfs live in the cache. */
const TMPFS_MAGIC = 0x01021994;

function cachedBytes(path: string): number {
  return Number(execFileSync('fincore', ['-b', '-n', '-o', 'RES', path], { encoding: 'utf8' }));
}

/** Runs `work` in a folder that holds `source.raw`: random data, on the disk and in the cache. */
async function withSource(work: (path: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = await dir({ unsafeCleanup: true, prefix: 'vimg-cache' });
  try {
    const path = (name: string): string => join(folder.path, name);
    writeFileSync(path('source.raw'), new SeededRandom(7).fill(new Uint8Array(SIZE)));
    execFileSync('sync', [path('source.raw')]);
    await work(path);
  } finally {
    await folder.cleanup();
  }
}

async function convert(
  source: string,
  target: string,
  format: string,
  options: Partial<ConvertOptions>,
): Promise<void> {
  const disk = await DiskImage.open(source, { formats });
  try {
    await convertDisk(disk, { path: target, format }, { formats, ...options });
  } finally {
    await disk.close();
  }
}

describe.skipIf(requireTool('fincore'))('cache modes', () => {
  it.skipIf(statfsSync('/tmp').type === TMPFS_MAGIC)('each side leaves nothing in the cache', async () => {
    await withSource(async (path) => {
      for (const format of ['raw', 'vvd', 'qcow2']) {
        const target = path(`target.${format}`);
        await convert(path('source.raw'), target, format, { uncached: { source: false, target: true } });
        expect(cachedBytes(target)).toBeLessThan(64 * 1024); // the header, which the close writes
        expect(cachedBytes(path('source.raw'))).toBe(SIZE);
      }
      await convert(path('source.raw'), path('b.vvd'), 'vvd', { uncached: { source: true, target: false } });
      expect(cachedBytes(path('source.raw'))).toBe(0);
      expect(cachedBytes(path('b.vvd'))).toBeGreaterThan(SIZE);
    });
  });

  it.skipIf(statfsSync('/tmp').type === TMPFS_MAGIC)('a comparison leaves nothing, either', async () => {
    await withSource(async (path) => {
      const file = await FileDevice.open(path('source.raw'));
      const again = await FileDevice.open(path('source.raw'));
      expect(await compareDisks(file, again, { uncached: true })).toMatchObject({ identical: true });
      expect(cachedBytes(path('source.raw'))).toBe(0);
      await file.close();
      await again.close();
    });
  });
});

describe('copy offloading', () => {
  it('gives the same bytes, from every format, zeroes in data included', async () => {
    await withSource(async (path) => {
      const bytes = readFileSync(path('source.raw'));
      bytes.fill(0, MiB, 3 * MiB);
      writeFileSync(path('source.raw'), bytes);
      for (const format of ['raw', 'vvd', 'qcow2']) {
        await convert(path('source.raw'), path(`copy.${format}`), format, { sparseSize: 0 });
        await convert(path(`copy.${format}`), path('back.raw'), 'raw', { offload: true });
        expect(readFileSync(path('back.raw')).equals(bytes)).toBe(true);
      }
      await convert(path('copy.vvd'), path('back.vvd'), 'vvd', { offload: true }); // done by hand
      await convert(path('back.vvd'), path('back.raw'), 'raw', {});
      expect(readFileSync(path('back.raw')).equals(bytes)).toBe(true);
    });
  });

  it('verifies the checksums of a sealed layer all the same', async () => {
    await withSource(async (path) => {
      await convert(path('source.raw'), path('sealed.vvd'), 'vvd', { seal: true });
      const bytes = readFileSync(path('sealed.vvd'));
      const at = bytes.length - 2 * MiB;
      bytes[at] = (bytes[at] as number) ^ 1;
      writeFileSync(path('sealed.vvd'), bytes);
      await expect(
        convert(path('sealed.vvd'), path('back.raw'), 'raw', { offload: true }),
      ).rejects.toMatchObject({
        code: 'CORRUPT',
      });
    });
  });
});
