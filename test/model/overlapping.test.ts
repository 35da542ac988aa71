/**
 * Operations under way at once on the same places. No order is promised among them; but each sector ends up as one of
 * them left it, whole, and nothing fails.
 */
import { ok } from 'node:assert/strict';
import { describe, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { DiskImage } from '../../src/image/disk-image.ts';
import { SECTOR, ShuffleDevice } from '../../src/testing/index.ts';
import { type ChainPlace, datastoreForTests, IN_MEMORY } from './chain-place.ts';
import { makeChain, openChain, removeChain } from './vvd-chain.ts';

const KiB = 1024;
const UNIT = 64 * KiB;
const SIZE = 6 * UNIT + 3 * SECTOR;
const EFFORT = Number(process.env['VIMG_MODEL_EFFORT'] ?? 1);
const SUB_BLOCK = UNIT / 32;

/** Launches operations that overlap, and keeps for each sector what it may be afterwards. */
class Round {
  readonly #disk: DiskImage;
  readonly #random: SeededRandom;
  readonly #words: number[];
  readonly #possible = new Map<number, Set<number>>();
  readonly #underWay: Promise<unknown>[] = [];

  constructor(disk: DiskImage, random: SeededRandom, words: number[]) {
    this.#disk = disk;
    this.#random = random;
    this.#words = words;
  }

  launch(word: number): void {
    this.#underWay.push(this.#operation(word)());
  }

  #operation(word: number): () => Promise<unknown> {
    const random = this.#random;
    const first = random.below(SIZE / SECTOR);
    const sectors = Math.min(1 + random.below(random.pick([2, 16, 200])), SIZE / SECTOR - first);
    const offset = first * SECTOR;
    const length = sectors * SECTOR;
    const disk = this.#disk;
    switch (random.below(8)) {
      case 0:
        this.#may(offset, length, 0);
        return async () => disk.writeZeroes(offset, length, { keepAllocated: random.oneIn(2) });
      case 1: {
        const from = Math.ceil(offset / SUB_BLOCK) * SUB_BLOCK;
        const end = offset + length;
        const to = end === SIZE ? SIZE : Math.floor(end / SUB_BLOCK) * SUB_BLOCK;
        if (from < to) this.#may(from, to - from, 0);
        return async () => disk.discard(offset, length);
      }
      case 2: {
        const block = Math.floor(offset / UNIT) * UNIT;
        const unit = filled(Math.min(UNIT, SIZE - block), word);
        this.#may(block, unit.length, word);
        return () => disk.writeCompressed(block, unit);
      }
      case 3:
        return async () => disk.flush();
      case 4:
        return async () => disk.pread(new Uint8Array(length), offset);
      default:
        this.#may(offset, length, word);
        return async () => disk.pwrite(filled(length, word), offset);
    }
  }

  #may(offset: number, length: number, word: number): void {
    for (let sector = offset / SECTOR; sector < (offset + length) / SECTOR; sector++) {
      const possible = this.#possible.get(sector);
      if (possible) possible.add(word);
      else this.#possible.set(sector, new Set([word]));
    }
  }

  /** Waits for all, and adopts what the disk holds then. */
  async settle(): Promise<void> {
    await Promise.all(this.#underWay);
    const content = new Uint32Array(SIZE / 4);
    await this.#disk.pread(new Uint8Array(content.buffer), 0);
    for (let sector = 0; sector < SIZE / SECTOR; sector++) {
      const words = content.subarray(sector * (SECTOR / 4), (sector + 1) * (SECTOR / 4));
      const word = words[0] as number;
      ok(
        words.every((each) => each === word),
        `sector ${sector} is torn`,
      );
      const possible = this.#possible.get(sector) ?? new Set([this.#words[sector]]);
      ok(possible.has(word), `sector ${sector} is ${word}, not one of ${[...possible]}`);
      this.#words[sector] = word;
    }
  }
}

function filled(length: number, word: number): Uint8Array {
  return new Uint8Array(new Uint32Array(length / 4).fill(word).buffer);
}

async function run(seed: number, place: ChainPlace): Promise<void> {
  const random = new SeededRandom(seed);
  const sizes = Array.from({ length: 1 + random.below(2) }, () => SIZE);
  const options = { journal_size: 128 * KiB, compression: random.pick(['zstd', 'deflate']) };
  const { files } = await makeChain({ seed, blockSize: UNIT, sizes, options, writes: 0 }, place);
  const around = (file: BlockDevice): BlockDevice =>
    new ShuffleDevice(file, random.nextU32(), { sameTickOneIn: random.pick([0, 2, 5]) });
  let disk = await openChain(files, around);
  const words = new Array<number>(SIZE / SECTOR).fill(0);
  let word = 1;
  for (let i = 0; i < 25; i++) {
    const round = new Round(disk, random, words);
    for (let left = 1 + random.below(12); left > 0; left--) round.launch(word++);
    await round.settle();
    if (random.oneIn(5)) {
      await disk.close();
      disk = await openChain(files, around);
      await new Round(disk, random, words).settle();
    }
  }
  await disk.close();
  await removeChain(files);
}

const seeds = (count: number): number[] => Array.from({ length: count * EFFORT }, (_, i) => i);

describe('operations under way at once on the same places', () => {
  it.each(seeds(20))('leave one of them each (seed %i)', (seed) => run(seed, IN_MEMORY));
});

describe('operations under way at once on the same places, in a datastore on a LUN,', () => {
  const place = datastoreForTests(2);
  it.each(seeds(4))('leave one of them each (seed %i)', (seed) => run(seed, place));
});
