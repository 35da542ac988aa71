/**
 * Images that are sound: a check finds nothing, whatever the driver did to them, closed or not.
 *
 * Compressed blocks share pages, and which others use a page is not known when one of them is given up: its first
 * and last page stay taken. So images in which compressed blocks were overwritten have leaks of single pages.
 */
import { describe, expect, it } from 'vitest';
import { checkVvd } from '../../../formats/vvd/check.ts';
import type { CheckFinding } from '../../../src/image/check-report.ts';
import { KiB, MiB, openDisk, sampleImage } from './sample-image.ts';

function isSharedPage(finding: CheckFinding): boolean {
  return finding.severity === 'leak' && /^(4096|8192) bytes/.test(finding.message);
}

describe('a check of a sound image', () => {
  it.each([
    [1, 64 * KiB, 'deflate'],
    [2, 128 * KiB, 'none'],
    [3, 1024 * KiB, 'deflate'],
    [4, 4096 * KiB, 'zstd'],
    [5, 64 * KiB, 'zstd'],
    [6, 64 * KiB, 'none'],
  ])('finds nothing (seed %i, blocks of %i bytes, %s)', async (seed, blockSize, compression) => {
    const { file, crashed } = await sampleImage(seed, {
      blockSize,
      compression,
      steps: blockSize > MiB / 2 ? 30 : 120,
    });
    for (const image of [file, crashed]) {
      const before = image.fork();
      const report = await checkVvd(image, { scrub: true });
      expect(report.findings.filter((finding) => !isSharedPage(finding))).toEqual([]);
      expect(report).toMatchObject({ corruptions: 0, checkErrors: 0 });
      if (compression === 'none') expect(report.leaks).toBe(0);
      expect(report.totalClusters).toBe(Math.ceil((40 * MiB + 512) / blockSize));
      expect(Buffer.compare(image.snapshot(), before.snapshot())).toBe(0);
    }
  });

  it.each(['lazy', 'thick'])('finds nothing in a %s disk', async (provisioning) => {
    const { file } = await sampleImage(7, {
      provisioning,
      compression: 'none',
      virtualSize: 20 * MiB,
      steps: 40,
    });
    const report = await checkVvd(file);
    expect(report.findings).toEqual([]);
    expect(report.fragmentedClusters).toBeLessThan(report.allocatedClusters);
  });

  it('finds nothing after disks grew and shrank', async () => {
    const { file } = await sampleImage(8, { compression: 'none' });
    const disk = await openDisk(file);
    await disk.resize(70_000 * MiB);
    await disk.pwrite(new Uint8Array(9000).fill(1), 69_000 * MiB);
    await disk.resize(400_000 * MiB); // its directory moves a second time
    await disk.pwrite(new Uint8Array(9000).fill(1), 390_000 * MiB);
    await disk.resize(17 * MiB + 512);
    await disk.close();
    expect((await checkVvd(file)).findings).toEqual([]);
  });

  it('counts as qemu-img does', async () => {
    const { file } = await sampleImage(9, { steps: 0 });
    const disk = await openDisk(file);
    await disk.pwrite(new Uint8Array(256 * KiB).fill(1), 0);
    await disk.pwrite(new Uint8Array(64 * KiB).fill(1), 640 * KiB);
    await disk.pwrite(new Uint8Array(64 * KiB).fill(1), 512 * KiB);
    await disk.writeCompressed(1024 * KiB, new Uint8Array(64 * KiB).fill(1));
    await disk.close();
    const report = await checkVvd(file);
    expect(report).toMatchObject({
      totalClusters: 641,
      allocatedClusters: 7,
      fragmentedClusters: 3,
      compressedClusters: 1,
    });
    expect(report.imageEndOffset).toBeLessThanOrEqual(file.size);
  });

  it('tells how far it is, and can be cancelled', async () => {
    const { file } = await sampleImage(10);
    const fractions: number[] = [];
    await checkVvd(file, { onProgress: (fraction) => fractions.push(fraction) });
    expect(fractions[fractions.length - 1]).toBe(1);
    expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
    const cancelled = checkVvd(file, { signal: AbortSignal.abort() });
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
