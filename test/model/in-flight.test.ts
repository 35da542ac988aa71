/**
 * Many operations under way at once on a device that completes them in any order. Ranges never overlap, but they
 * share sub-blocks, blocks and table pages, and the journal is as small as it can be.
 */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { DiskImage } from '../../src/image/disk-image.ts';
import { type ModelDisk, patterned, ShuffleDevice, sameBytes } from '../../src/testing/index.ts';
import { type ChainPlace, datastoreForTests, IN_MEMORY } from './chain-place.ts';
import { type ChainShape, makeChain, openChain, removeChain } from './vvd-chain.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const EFFORT = Number(process.env['VIMG_MODEL_EFFORT'] ?? 1);

interface Held {
  readonly offset: number;
  readonly end: number;
  readonly shared: boolean;
  readonly done: Promise<void>;
}

/** Issues operations on ranges that no other operation under way has, and keeps the model in step. */
class Crowd {
  readonly #disk: DiskImage;
  readonly #model: ModelDisk;
  readonly #random: SeededRandom;
  readonly #unit: number;
  readonly #underWay = new Set<Held>();
  readonly #flushes = new Set<Promise<void>>();

  constructor(disk: DiskImage, model: ModelDisk, random: SeededRandom, unit: number) {
    this.#disk = disk;
    this.#model = model;
    this.#random = random;
    this.#unit = unit;
  }

  async quiet(): Promise<void> {
    await Promise.all([...[...this.#underWay].map((held) => held.done), ...this.#flushes]);
  }

  /** Starts one operation; waits for one when there are too many. */
  async step(most: number): Promise<void> {
    const random = this.#random;
    while (this.#underWay.size >= most) await Promise.race([...this.#underWay].map((held) => held.done));
    const model = this.#model;
    const near = random.oneIn(2) ? random.below(model.size) : random.below(4) * this.#unit;
    const offset = Math.min(model.size - 1, near);
    const length = Math.min(model.size - offset, 1 + random.below(random.oneIn(4) ? 3 * this.#unit : 6000));
    switch (random.below(10)) {
      case 0:
        return this.#start(offset, length, false, async () => {
          model.zero(offset, length);
          await this.#disk.writeZeroes(offset, length, { keepAllocated: random.oneIn(2) });
        });
      case 1:
        return this.#start(offset, length, false, async () => {
          model.discard(offset, length);
          await this.#disk.discard(offset, length);
        });
      case 2:
        return this.#startCompress(Math.floor(offset / this.#unit) * this.#unit);
      case 3:
      case 4: {
        const expected = model.content.slice(offset, offset + length);
        return this.#start(offset, length, true, async () => {
          const found = new Uint8Array(length).fill(0xdd);
          await this.#disk.pread(found, offset);
          sameBytes(found, expected, `read of ${length} at ${offset}`);
        });
      }
      case 5: {
        const flush = Promise.resolve(this.#disk.flush()).finally(() => this.#flushes.delete(flush));
        this.#flushes.add(flush);
        return;
      }
      default: {
        const data = patterned(length, random.below(255));
        return this.#start(offset, length, false, async () => {
          model.write(offset, data);
          await this.#disk.pwrite(data, offset);
          data.fill(0xee); // the disk must be done with it
        });
      }
    }
  }

  #startCompress(offset: number): void {
    const data = new Uint8Array(Math.min(this.#unit, this.#model.size - offset));
    data.set(patterned(data.length >>> 1, this.#random.below(255)));
    this.#start(offset, data.length, false, async () => {
      this.#model.write(offset, data);
      await this.#disk.writeCompressed(offset, data);
    });
  }

  #start(offset: number, length: number, shared: boolean, work: () => Promise<void>): void {
    const end = offset + length;
    for (const held of this.#underWay) {
      if (held.offset < end && offset < held.end && !(shared && held.shared)) return;
    }
    const done = work().finally(() => this.#underWay.delete(held));
    const held: Held = { offset, end, shared, done };
    this.#underWay.add(held);
  }
}

async function run(seed: number, shape: ChainShape, steps: number, place: ChainPlace): Promise<void> {
  const random = new SeededRandom(seed);
  const { files, model } = await makeChain({ ...shape, seed }, place);
  const around = (file: BlockDevice) =>
    new ShuffleDevice(file, random.nextU32(), { sameTickOneIn: random.pick([0, 2, 5]) });
  const reopen = () => openChain(files, around);
  let disk = await reopen();
  for (let session = 0; session < 3; session++) {
    const crowd = new Crowd(disk, model, random, shape.blockSize);
    const most = random.pick([2, 8, 40]);
    for (let i = 0; i < steps; i++) {
      await crowd.step(most);
      if (random.oneIn(60)) {
        await crowd.quiet();
        await model.compare(disk);
      }
    }
    await crowd.quiet();
    await model.compare(disk);
    if (random.oneIn(2)) {
      const size = 512 * Math.ceil((random.below(3) * MiB + random.below(MiB) + 512) / 512);
      await disk.resize(size);
      model.resize(size);
    }
    await disk.close();
    disk = await reopen();
    await model.compare(disk);
  }
  await disk.close();
  await removeChain(files);
}

async function runRandomShape(seed: number, place: ChainPlace): Promise<void> {
  const random = new SeededRandom(seed);
  const blockSize = random.pick([64, 64, 128, 256]) * KiB;
  const depth = random.pick([1, 2, 3, 6]);
  const sizes = Array.from({ length: depth }, () => 512 * (1024 + random.below(4096)));
  const compression = random.pick(['deflate', 'zstd']);
  const options = { journal_size: 128 * KiB, compression };
  await expect(run(seed, { seed, blockSize, sizes, options }, 150, place)).resolves.toBeUndefined();
}

const seeds = (count: number): number[] => Array.from({ length: count * EFFORT }, (_, i) => i);

describe('operations under way at once', () => {
  it.each(seeds(12))('do what the model does (seed %i)', (seed) => runRandomShape(seed, IN_MEMORY));
});

describe('operations under way at once, in a datastore on a LUN,', () => {
  const place = datastoreForTests(1);
  it.each(seeds(3))('do what the model does (seed %i)', (seed) => runRandomShape(seed, place));
});
