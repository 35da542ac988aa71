/** vvd.ksy against the driver: compiled here, it must see in every image what the driver's decoders see. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { beforeAll, describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { vvdLifecycle } from '../../../formats/vvd/lifecycle.ts';
import { FileDevice } from '../../../src/device/file-device.ts';
import { linkedClone } from '../../../src/image/clone.ts';
import { createImage } from '../../../src/image/create-image.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { compileKsy } from '../../ksy-compiler.ts';
import { fixtureBytes, VVD_FIXTURES } from './fixtures.ts';
import { compare } from './ksy-comparison.ts';
import type { ParsedVvd } from './parsed-vvd.ts';
import { KiB, MiB, sampleImage } from './sample-image.ts';

let parse: (image: Uint8Array) => ParsedVvd;
beforeAll(async () => {
  parse = await compileKsy<ParsedVvd>(new URL('../../../formats/vvd/vvd.ksy', import.meta.url));
});

describe('vvd.ksy sees what the driver sees', () => {
  it.each(VVD_FIXTURES)('in $version/$name', async (fixture) => {
    const torn = { 'torn-header.vvd': ['header'], 'crashed.vvd': ['pages'] } as const;
    await compare(parse, fixtureBytes(fixture), torn[fixture.name as keyof typeof torn] ?? []);
  });

  it.each([
    [1, 64 * KiB, 'deflate'],
    [2, 128 * KiB, 'zstd'],
    [3, 256 * KiB, 'none'],
    [4, 64 * KiB, 'zstd'],
  ])('in random images (seed %i, blocks of %i bytes, %s)', async (seed, blockSize, compression) => {
    const { file, crashed } = await sampleImage(seed, {
      blockSize,
      compression,
      virtualSize: 20 * MiB,
      steps: 60,
    });
    await compare(parse, file.snapshot());
    await compare(parse, crashed.snapshot());
  });

  it('in sealed layers, snapshots, clones and attributes', async () => {
    const folder = await dir({ unsafeCleanup: true, prefix: 'vimg-ksy-' });
    const at = (name: string): string => join(folder.path, name);
    try {
      await createImage(at('a.vvd'), {
        formats,
        format: 'vvd',
        size: 70 * MiB,
        options: { block_size: 64 * KiB },
      });
      await write(at('a.vvd'), 1);
      await vvdLifecycle.createSnapshot([at('a.vvd')], 'näme');
      await vvdLifecycle.seal(at('a@näme.vvd'), {});
      await write(at('a.vvd'), 2);
      await linkedClone(at('a@näme.vvd'), at('b.vvd'), { formats });
      await write(at('b.vvd'), 3);
      await vvdLifecycle.changeAttributes(
        at('b.vvd'),
        new Map([
          ['label', 'Größe'],
          ['x-number', '12'],
        ]),
      );
      for (const name of ['a.vvd', 'a@näme.vvd', 'b.vvd']) await compare(parse, await bytesOf(at(name)));
    } finally {
      rmSync(folder.path, { recursive: true });
    }
  });

  it('in a space list of several pages', async () => {
    const { file } = await sampleImage(5, { steps: 0, virtualSize: 80 * MiB, compression: 'none' });
    const disk = new DiskImage('memory', [
      await formats.get('vvd').open(file, { readOnly: false, gate: noGate }),
    ]);
    for (let block = 0; block < 1200; block++)
      await disk.writeZeroes(block * 64 * KiB, 64 * KiB, { keepAllocated: true });
    for (let block = 0; block < 1200; block += 2) await disk.discard(block * 64 * KiB, 64 * KiB);
    await disk.close();
    expect(parse(file.snapshot()).spaceList.morePages.length).toBe(3);
    await compare(parse, file.snapshot());
  });
});

const noGate = (): Promise<never> => Promise.reject(new Error('nothing is opened'));

async function write(path: string, seed: number): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  for (let i = 0; i < 12; i++) {
    const offset = (((seed * 7919 + i * 104_729) * 4096) % (60 * MiB)) + i * 100;
    await disk.pwrite(new Uint8Array(50_000).fill(seed * 16 + i), offset);
  }
  await disk.close();
}

async function bytesOf(path: string): Promise<Uint8Array> {
  const file = await FileDevice.open(path, { readOnly: true });
  const bytes = new Uint8Array(file.size);
  await file.pread(bytes, 0);
  await file.close();
  return bytes;
}
