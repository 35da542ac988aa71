/** Checks of layers: sealed ones with their checksums, and all files of a disk after whatever is done to snapshots. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { checkVvd } from '../../../formats/vvd/check.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import { PAGE } from '../../../formats/vvd/layout.ts';
import { vvdLifecycle } from '../../../formats/vvd/lifecycle.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { FileDevice } from '../../../src/device/file-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { linkedClone } from '../../../src/image/clone.ts';
import { createImage } from '../../../src/image/create-image.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { createSnapshot, deleteSnapshot, revertSnapshot } from '../../../src/image/snapshot.ts';
import { flipBit, KiB, MiB, tablePlaces } from './sample-image.ts';

const BLOCK = 64 * KiB;
const SIZE = 70 * MiB;
const context = { formats };
let folder: string;
let cleanup: () => Promise<void>;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-check-' });
  folder = made.path;
  cleanup = made.cleanup;
});
afterEach(() => cleanup());

async function createDisk(name: string): Promise<string> {
  const path = join(folder, name);
  await createImage(path, {
    formats,
    format: 'vvd',
    size: SIZE,
    options: { block_size: BLOCK, journal_size: 128 * KiB },
  });
  return path;
}

async function write(path: string, seed: number): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  const random = new SeededRandom(seed);
  for (let i = 0; i < 30; i++) {
    const length = 1 + random.below(3 * BLOCK);
    const offset = random.below(SIZE - length);
    if (random.oneIn(4)) await disk.writeZeroes(offset, length);
    else await disk.pwrite(random.fill(new Uint8Array(length)), offset);
  }
  await disk.close();
}

/** Every file of the folder, checked with its data. */
async function expectAllSound(): Promise<void> {
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.vvd'))) {
    const file = await FileDevice.open(join(folder, name), { readOnly: true });
    const report = await checkVvd(file, { scrub: true });
    await file.close();
    expect({ name, findings: report.findings }).toEqual({ name, findings: [] });
  }
}

describe('files of a disk with snapshots', () => {
  it('are sound after each change', async () => {
    const disk = await createDisk('disk.vvd');
    await write(disk, 1);
    for (const [i, name] of ['one', 'two', 'three'].entries()) {
      await createSnapshot([disk], name, context);
      await expectAllSound();
      await write(disk, 10 + i);
    }
    await linkedClone(join(folder, 'disk@three.vvd'), join(folder, 'clone.vvd'), context);
    await write(join(folder, 'clone.vvd'), 20);
    await expectAllSound();
    await revertSnapshot(disk, 'two', context);
    await write(disk, 30);
    await expectAllSound();
  });

  it.each([false, true])('are sound after snapshots were deleted (with checksums: %s)', async (sealed) => {
    const disk = await createDisk('disk.vvd');
    await write(disk, 1);
    for (const [i, name] of ['one', 'two', 'three'].entries()) {
      await createSnapshot([disk], name, context);
      if (sealed) await vvdLifecycle.seal(join(folder, `disk@${name}.vvd`), {});
      await write(disk, 10 + i);
    }
    for (const name of ['two', 'one', 'three']) {
      await deleteSnapshot(disk, name, context);
      await expectAllSound();
    }
  });

  it('are sound after they were unsealed and written', async () => {
    const disk = await createDisk('disk.vvd');
    await write(disk, 1);
    await vvdLifecycle.seal(disk, {});
    await expectAllSound();
    await vvdLifecycle.unseal(disk, false);
    await write(disk, 2);
    await expectAllSound();
  });
});

async function sealedImage(): Promise<MemoryDevice> {
  const disk = await createDisk('golden.vvd');
  await write(disk, 5);
  await vvdLifecycle.seal(disk, {});
  const file = await FileDevice.open(disk, { readOnly: true });
  const bytes = new Uint8Array(file.size);
  await file.pread(bytes, 0);
  await file.close();
  return MemoryDevice.from(bytes);
}

describe('a check of a sealed layer', () => {
  it('finds every bit flipped in its checksum pages', async () => {
    const image = await sealedImage();
    const { checksumOffset, checksumPages } = await readHeader(image);
    expect(checksumPages).toBe(2);
    const random = new SeededRandom(6);
    for (let page = 0; page < checksumPages; page++) {
      for (let i = 0; i < 20; i++) {
        const damaged = image.fork();
        await flipBit(damaged, checksumOffset + page * PAGE + random.below(PAGE), random.below(8));
        const report = await checkVvd(damaged);
        expect(report.findings).toMatchObject([
          { kind: 'checksum-page', guestRange: { offset: page * 1008 * BLOCK } },
        ]);
      }
    }
  });

  it('finds a bit flipped in data, when it reads the data', async () => {
    const image = await sealedImage();
    const [table] = await tablePlaces(image);
    const view = new DataView(new ArrayBuffer(PAGE));
    await image.pread(new Uint8Array(view.buffer), table?.place ?? 0);
    let flipped = 0;
    for (let slot = 0; slot < 252; slot++) {
      const stored = view.getUint32(64 + slot * 16 + 8, true);
      if ((view.getUint8(64 + slot * 16) & 0xf) !== 1 || stored === 0) continue;
      const firstStored = 31 - Math.clz32(stored & -stored);
      const place = (view.getUint32(64 + slot * 16, true) & ~0xf) >>> 0;
      const damaged = image.fork();
      await flipBit(damaged, place + (firstStored * BLOCK) / 32, 0);
      expect((await checkVvd(damaged)).findings).toEqual([]);
      const report = await checkVvd(damaged, { scrub: true });
      expect(report.findings).toMatchObject([
        { kind: 'data-checksum', fileOffset: place, guestRange: { offset: slot * BLOCK, length: BLOCK } },
      ]);
      if (++flipped === 5) break;
    }
    expect(flipped).toBe(5);
  });
});
