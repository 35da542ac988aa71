/**
 * 200 random images by qemu-img go into a vvd disk and back; qemu-img compares what comes out with what went in.
 *
 * On the way some disks are compressed, sealed below a snapshot and written over, or read through a linked clone. One
 * in ten goes by the command line, the others by the functions that it calls.
 */
import { rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { OptionValues } from '../../src/image/format-driver.ts';
import { createSnapshot, DiskImage, linkedClone } from '../../src/image/index.ts';
import { convertDisk } from '../../src/job/convert.ts';
import { requireTool } from '../reference-tools.ts';
import { type Output, run, vimg } from './programs.ts';
import { makeRandomSource, type RandomSource } from './random-source.ts';

const IMAGES = 200;
const GROUP = 20;
const KiB = 1024;

let folder = '';
let cleanup = async (): Promise<void> => undefined;

beforeAll(async () => {
  const made = await dir({ prefix: 'vimg-compare-', unsafeCleanup: true });
  folder = made.path;
  cleanup = made.cleanup;
});
afterAll(() => cleanup());

describe.skipIf(requireTool('qemu-img', 'qemu-io'))('qemu-img compare of images converted and back', () => {
  test.each(Array.from({ length: IMAGES / GROUP }, (_, group) => group * GROUP))(
    'images from %i on are identical',
    async (first) => {
      for (let image = first; image < first + GROUP; image++) {
        await roundTrip(image).catch((cause: unknown) => {
          throw new Error(`image ${image}: ${String(cause)}`, { cause });
        });
      }
    },
  );
});

interface Step {
  readonly source: string;
  readonly format?: string;
  readonly snapshot?: string | undefined;
  readonly target: string;
  readonly targetFormat: string;
  readonly options: OptionValues;
  readonly compress: boolean;
  readonly sparseSize?: number;
}

type Converter = (step: Step) => Promise<void>;

async function roundTrip(image: number): Promise<void> {
  const random = new SeededRandom(0x200 + image);
  const source = await makeRandomSource(folder, `image-${image}`, random);
  const converter: Converter = image % 10 === 0 ? byCommand : byLibrary;
  const disk = `image-${image}.vvd`;
  const into = vvdTarget(random);
  const step = { source: source.path, format: source.format, snapshot: source.snapshot };
  await converter({ ...step, target: disk, targetFormat: 'vvd', ...into });
  const back = await detour(disk, random);
  const out = backTarget(random);
  const target = `image-${image}-back.${out.targetFormat}`;
  await converter({ ...back, target, ...out });
  const message = `${source.text} → ${JSON.stringify(into)} → ${JSON.stringify({ ...back, ...out })}`;
  await expectIdentical(source, target, out.targetFormat, message);
  for (const name of await readdir(folder)) {
    if (name.startsWith(`image-${image}`)) rmSync(join(folder, name));
  }
}

function vvdTarget(random: SeededRandom): Pick<Step, 'options' | 'compress'> {
  const compression = random.pick(['none', 'zstd', 'deflate']);
  const blockSize = random.pick([64, 128, 128, 256, 1024, 4096]) * KiB;
  return {
    options: { block_size: blockSize, compression },
    compress: compression !== 'none' && random.oneIn(2),
  };
}

function backTarget(
  random: SeededRandom,
): Pick<Step, 'targetFormat' | 'options' | 'compress' | 'sparseSize'> {
  const sparseSize = random.pick([4096, 4096, 64 * KiB, 1024 * KiB]);
  if (random.oneIn(2)) return { targetFormat: 'raw', options: {}, compress: false, sparseSize };
  const options = {
    cluster_size: random.pick([4, 64, 64, 1024]) * KiB,
    compression_type: random.pick(['zlib', 'zstd']),
  };
  return { targetFormat: 'qcow2', options, compress: random.oneIn(2), sparseSize };
}

/** The disk itself; or a snapshot of it, which later writes must not touch; or a clone of it. */
async function detour(disk: string, random: SeededRandom): Promise<Pick<Step, 'source' | 'snapshot'>> {
  const path = join(folder, disk);
  const kind = random.below(4);
  if (kind === 0) {
    await createSnapshot([path], 'kept', { formats });
    await scribble(path, random);
    return { source: disk, snapshot: 'kept' };
  }
  if (kind === 1) {
    const clone = disk.replace('.vvd', '-clone.vvd');
    await linkedClone(path, join(folder, clone), { formats });
    await scribble(path, random);
    return { source: clone };
  }
  return { source: disk };
}

async function scribble(path: string, random: SeededRandom): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  for (let count = 8; count > 0; count--) {
    const length = Math.min(disk.size, 1 + random.below(300 * KiB));
    const offset = random.below(disk.size - length + 1);
    if (random.oneIn(3)) await disk.writeZeroes(offset, length);
    else await disk.pwrite(random.bytes(length), offset);
  }
  await disk.close();
}

async function byLibrary(step: Step): Promise<void> {
  const { format, snapshot, target, targetFormat, options, compress, sparseSize } = step;
  const source = await DiskImage.open(join(folder, step.source), { formats, format, snapshot });
  try {
    await convertDisk(
      source,
      { path: join(folder, target), format: targetFormat, options },
      { formats, compress, durable: false, ...(sparseSize === undefined ? {} : { sparseSize }) },
    );
  } finally {
    await source.close();
  }
}

async function byCommand(step: Step): Promise<void> {
  const { snapshot, target, targetFormat, options, compress, sparseSize } = step;
  const settings = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  await vimg(
    folder,
    'convert',
    ...(step.format === undefined ? [] : ['-f', step.format]),
    ...(compress ? ['-c'] : []),
    ...(sparseSize === undefined ? [] : ['-S', String(sparseSize)]),
    ...['-O', targetFormat, ...settings],
    snapshot === undefined ? step.source : `${step.source}@${snapshot}`,
    target,
  );
}

async function expectIdentical(
  source: RandomSource,
  target: string,
  format: string,
  message: string,
): Promise<void> {
  let { path, format: sourceFormat } = source as { path: string; format: string };
  if (source.snapshot !== undefined) {
    await run(folder, 'qemu-img', 'convert', '-l', source.snapshot, '-O', 'raw', path, `${path}-inner.raw`);
    path = `${path}-inner.raw`;
    sourceFormat = 'raw';
  }
  const compare = ['compare', '-f', sourceFormat, '-F', format, path, target];
  const outcome = await run(folder, 'qemu-img', ...compare).catch((error: Output) => error);
  expect(outcome.stdout, message).toBe('Images are identical.\n');
}
