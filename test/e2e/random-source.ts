/** Random images as qemu-img and qemu-io make them: sizes, formats, options, content, layers behind and inside. */
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SeededRandom } from '../../src/base/random.ts';
import { run } from './programs.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const SECTOR = 512;

/** A made image: what to convert, and how to name it. */
export interface RandomSource {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** Made by the first commands, before others changed the image: to be read as `path@snapshot`. */
  readonly snapshot?: string;
  /** For a message. */
  readonly text: string;
}

/** Makes one image in `folder`. */
export async function makeRandomSource(
  folder: string,
  name: string,
  random: SeededRandom,
): Promise<RandomSource> {
  const size = randomSize(random);
  if (random.oneIn(4)) return makeRaw(folder, `${name}.raw`, size, random);
  const path = `${name}.qcow2`;
  const backing = random.oneIn(4) ? await makeBacking(folder, name, size, random) : [];
  const options = qcow2Options(random, backing.length > 0);
  await run(folder, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, ...backing, path, String(size));
  if (!options.includes('preallocation')) await writeCompressed(folder, path, size, random);
  await write(folder, path, 'qcow2', size, random);
  const text = `qcow2 ${size} ${options} ${backing.join(' ')}`;
  if (!random.oneIn(6)) return { path, format: 'qcow2', text };
  await run(folder, 'qemu-img', 'snapshot', '-c', 'inner', path);
  await write(folder, path, 'qcow2', size, random);
  return {
    path,
    format: 'qcow2',
    text: `${text} with a snapshot`,
    ...(random.oneIn(2) ? { snapshot: 'inner' } : {}),
  };
}

/** Whole sectors; a few sectors, a few MiB, or a few GiB of which nearly nothing is there. */
function randomSize(random: SeededRandom): number {
  const kind = random.below(10);
  if (kind === 0) return SECTOR * (1 + random.below(64));
  if (kind === 1) return MiB * (1 + random.below(8));
  if (kind === 2) return 2 * GiB + SECTOR * random.below(1_000_000);
  return SECTOR * (1 + random.below(16_000));
}

async function makeRaw(
  folder: string,
  path: string,
  size: number,
  random: SeededRandom,
): Promise<RandomSource> {
  writeFileSync(join(folder, path), '');
  truncateSync(join(folder, path), size);
  await write(folder, path, 'raw', size, random);
  if (random.oneIn(3)) truncateSync(join(folder, path), Math.max(1, size - random.below(SECTOR))); // no whole sector
  return { path, format: 'raw', text: `raw ${size}` };
}

function qcow2Options(random: SeededRandom, hasBacking: boolean): string {
  const clusterSize = random.pick([512, 4 * KiB, 16 * KiB, 64 * KiB, 64 * KiB, 256 * KiB, 2 * MiB]);
  if (random.oneIn(6)) return `compat=0.10,cluster_size=${Math.min(clusterSize, 64 * KiB)}`;
  const options = [`cluster_size=${clusterSize}`, `compression_type=${random.pick(['zlib', 'zstd'])}`];
  if (clusterSize >= 16 * KiB && random.oneIn(3)) options.push('extended_l2=on');
  if (random.oneIn(4)) options.push('lazy_refcounts=on');
  if (random.oneIn(4)) options.push(`refcount_bits=${random.pick([8, 16, 32, 64])}`);
  if (random.oneIn(6) && !hasBacking) options.push('preallocation=metadata');
  return options.join(',');
}

/** A layer behind, as arguments of `create`: shorter, as long, or longer. */
async function makeBacking(
  folder: string,
  name: string,
  size: number,
  random: SeededRandom,
): Promise<string[]> {
  const sectors = Math.max(1, Math.floor((size / SECTOR) * random.pick([0.5, 1, 1.5])));
  const format = random.pick(['raw', 'qcow2'] as const);
  const path = `${name}-behind.${format}`;
  await run(folder, 'qemu-img', 'create', '-q', '-f', format, path, String(sectors * SECTOR));
  await write(folder, path, format, sectors * SECTOR, random);
  return ['-b', path, '-F', format];
}

/** Some clusters of an empty image, compressed: qemu-io stores them so only where nothing is yet. */
async function writeCompressed(
  folder: string,
  path: string,
  size: number,
  random: SeededRandom,
): Promise<void> {
  const places = Math.min(8, Math.floor(size / (2 * MiB)));
  const commands: string[] = [];
  for (let place = 0; place < places; place++) {
    if (random.oneIn(4)) commands.push('-c', `write -q -c -P ${random.below(256)} ${2 * place}M 2M`);
  }
  if (commands.length > 0) await run(folder, 'qemu-io', '-f', 'qcow2', ...commands, path);
}

/** Data, zeroes and discards at random places. */
async function write(
  folder: string,
  path: string,
  format: string,
  size: number,
  random: SeededRandom,
): Promise<void> {
  const commands: string[] = [];
  for (let count = random.below(14); count > 0; count--) commands.push('-c', randomCommand(size, random));
  if (commands.length > 0) await run(folder, 'qemu-io', '-d', 'unmap', '-f', format, ...commands, path);
}

function randomCommand(size: number, random: SeededRandom): string {
  const most = Math.min(size, random.pick([4 * KiB, 64 * KiB, 512 * KiB, 2 * MiB]));
  const length = SECTOR * (1 + random.below(most / SECTOR));
  const offset = SECTOR * random.below((size - length) / SECTOR + 1);
  const kind = random.below(8);
  if (kind === 0) return `write -q -z ${offset} ${length}`;
  if (kind === 1) return `write -q -z -u ${offset} ${length}`;
  if (kind === 2) return `discard -q ${offset} ${length}`;
  return `write -q -P ${random.below(256)} ${offset} ${length}`;
}
