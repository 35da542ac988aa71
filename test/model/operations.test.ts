/** VVD disks against the model disk: random operations over block sizes, chain depths, and shapes of chains. */
import * as fc from 'fast-check';
import { describe, it } from 'vitest';
import { applyDiskOperation, type DiskUnderTest, diskOperation } from '../../src/testing/index.ts';
import { type ChainPlace, datastoreForTests, IN_MEMORY } from './chain-place.ts';
import { type ChainShape, makeChain, openChain, removeChain } from './vvd-chain.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

interface RunOptions {
  readonly rangeMax?: number;
  readonly place?: ChainPlace;
}

async function run(shape: ChainShape, numRuns: number, options: RunOptions = {}): Promise<void> {
  const { rangeMax, place = IN_MEMORY } = options;
  const { blockSize, sizes } = shape;
  const top = sizes.at(-1) as number;
  const operation = diskOperation(fc, {
    unit: blockSize,
    compress: true,
    resize: true,
    ...(rangeMax === undefined ? {} : { rangeMax }),
  });
  const operations = fc.array(operation, { minLength: 5, maxLength: 40, size: 'max' });
  const property = fc.asyncProperty(operations, fc.nat(), async (list, seed) => {
    const { files, model } = await makeChain({ ...shape, seed }, place);
    const reopen = () => openChain(files);
    const test: DiskUnderTest = { disk: await reopen(), model, unit: blockSize, sizeMax: top * 1.5, reopen };
    for (const item of list) await applyDiskOperation(test, item);
    await model.compare(test.disk);
    await test.disk.close();
    test.disk = await reopen();
    await model.compare(test.disk);
    await test.disk.close();
    await removeChain(files);
  });
  await fc.assert(property, { numRuns: numRuns * Number(process.env['VIMG_MODEL_EFFORT'] ?? 1) });
}

describe('a VVD disk does what the model does', () => {
  it.each([
    [64 * KiB, 25],
    [128 * KiB, 20],
    [256 * KiB, 15],
    [1 * MiB, 8],
    [4 * MiB, 4],
  ])('with blocks of %i bytes', async (blockSize, numRuns) => {
    const size = Math.max(2 * MiB, 3 * blockSize) + 512 * 3;
    await run({ seed: 0, blockSize, sizes: [size] }, numRuns, {
      rangeMax: Math.min(3 * blockSize, 2 * MiB),
    });
  });

  it.each([
    ['two layers of one size', [2 * MiB + 1536, 2 * MiB + 1536]],
    ['a parent longer than the child', [2 * MiB + 512, 1 * MiB + 1024]],
    ['a parent shorter than the child', [1 * MiB + 512, 2 * MiB + 1024]],
    ['three layers, the middle one shortest', [2 * MiB + 512, 1 * MiB + 2560, 3 * MiB]],
    ['three layers, the middle one longest', [1 * MiB + 512, 3 * MiB, 1.5 * MiB]],
    ['four layers of rising size', [512 * KiB + 512, 1 * MiB + 512, 1.5 * MiB + 512, 2 * MiB + 512]],
    ['four layers of falling size', [2 * MiB + 512, 1.5 * MiB + 512, 1 * MiB + 512, 512 * KiB + 512]],
  ])('over %s', async (_, sizes) => {
    await run({ seed: 0, blockSize: 64 * KiB, sizes }, 15);
  });

  it.each(['lazy', 'thick'])('with %s provisioning', async (provisioning) => {
    await run({ seed: 0, blockSize: 64 * KiB, sizes: [1 * MiB + 512], options: { provisioning } }, 10);
  });

  it('with lazy provisioning over a parent', async () => {
    const sizes = [1 * MiB + 512, 1.5 * MiB];
    await run({ seed: 0, blockSize: 64 * KiB, sizes, options: { provisioning: 'lazy' } }, 10);
  });

  it.each(['deflate', 'zstd'])('with %s compression', async (compression) => {
    await run(
      { seed: 0, blockSize: 64 * KiB, sizes: [1 * MiB, 1 * MiB + 512], options: { compression } },
      10,
    );
  });

  it.each([32, 256])('at the top of %i layers', async (depth) => {
    const sizes = Array.from({ length: depth }, (_, i) => 1 * MiB + 512 * (i % 7));
    await run({ seed: 0, blockSize: 64 * KiB, sizes, writes: 2 }, 2);
  });
});

describe('a VVD disk in a datastore on a LUN does what the model does', () => {
  const place = datastoreForTests();
  it.each([
    ['with blocks of 64 KiB', { blockSize: 64 * KiB, sizes: [2 * MiB + 1536] }, 6],
    ['with blocks of 1 MiB', { blockSize: 1 * MiB, sizes: [3 * MiB + 1536] }, 3],
    ['over a parent longer than the child', { blockSize: 64 * KiB, sizes: [2 * MiB + 512, 1 * MiB] }, 4],
    [
      'at the top of 12 layers',
      { blockSize: 64 * KiB, sizes: Array.from({ length: 12 }, (_, i) => 1 * MiB + 512 * i), writes: 2 },
      2,
    ],
    [
      'with thick provisioning',
      { blockSize: 64 * KiB, sizes: [1 * MiB + 512], options: { provisioning: 'thick' } },
      3,
    ],
    [
      'with compression',
      { blockSize: 64 * KiB, sizes: [1 * MiB, 1 * MiB + 512], options: { compression: 'zstd' } },
      3,
    ],
  ])('%s', async (_, shape, numRuns) => {
    await run({ seed: 0, ...shape }, numRuns, { place });
  });
});
