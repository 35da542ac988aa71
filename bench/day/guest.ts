/** A guest of a simulated day: a small file system of its own on a disk. Its files take space where there is some. */
import type { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { KiB, MiB } from '../work.ts';

/** What a guest writes at once. */
export const UNIT: number = 256 * KiB;
/** A new file begins in one of these, as in a block group of ext4. */
const REGION: number = (128 * MiB) / UNIT;

interface GuestFile {
  readonly units: number[];
  /** Units of it that are not written yet. */
  left: number;
}

export class Guest {
  readonly disk: BlockDevice;
  readonly random: SeededRandom;
  readonly units: number;
  readonly #used: Uint8Array;
  /** Written and deleted since, and the disk was not told. */
  readonly #stale: Uint8Array;
  #usedUnits = 0;
  readonly #files: GuestFile[] = [];
  readonly #growing: GuestFile[] = [];
  readonly #buffer = Buffer.alloc(UNIT);

  constructor(disk: BlockDevice, size: number, random: SeededRandom) {
    this.disk = disk;
    this.random = random;
    this.units = Math.floor(size / UNIT);
    this.#used = new Uint8Array(this.units);
    this.#stale = new Uint8Array(this.units);
  }

  /** Part of its file system that is in use. */
  get fullness(): number {
    return this.#usedUnits / this.units;
  }

  /** Writes `length` bytes that are all the same. */
  async write(offset: number, length: number): Promise<void> {
    await this.disk.pwrite(this.#buffer.fill(1 + this.random.below(255)).subarray(0, length), offset);
  }

  /** Writes one unit more of one of `count` files that grow side by side. */
  async grow(count: number, most: number): Promise<void> {
    while (this.#growing.length < count) {
      const left = 1 + this.random.below(this.random.pick([4, 16, most]));
      this.#growing.push({ units: [this.random.below(this.units / REGION) * REGION - 1], left });
    }
    const file = this.random.pick(this.#growing);
    const unit = this.#take((file.units.at(-1) as number) + 1);
    file.units.push(unit);
    if (--file.left === 0) {
      file.units.shift();
      this.#files.push(...this.#growing.splice(this.#growing.indexOf(file), 1));
    }
    await this.write(unit * UNIT, UNIT);
  }

  #take(from: number): number {
    let unit = this.#used.indexOf(0, from);
    if (unit < 0) unit = this.#used.indexOf(0);
    this.#used[unit] = 1;
    this.#stale[unit] = 0;
    this.#usedUnits++;
    return unit;
  }

  /** Deletes a file. @param discards whether the disk is told at once */
  async remove(discards: boolean): Promise<void> {
    const [file] = this.#files.splice(this.random.below(this.#files.length), 1);
    if (!file) return;
    for (const unit of file.units) {
      this.#used[unit] = 0;
      this.#stale[unit] = 1;
    }
    this.#usedUnits -= file.units.length;
    if (discards) await this.#discardAll(runsOf(file.units));
  }

  /** fstrim: tells the disk of everything that is not in use any more. */
  async trim(): Promise<void> {
    const stale: number[] = [];
    for (let at = this.#stale.indexOf(1); at >= 0; at = this.#stale.indexOf(1, at + 1)) stale.push(at);
    await this.#discardAll(runsOf(stale));
  }

  async #discardAll(runs: readonly (readonly [first: number, count: number])[]): Promise<void> {
    for (const [first, count] of runs) {
      this.#stale.fill(0, first, first + count);
      await this.disk.discard(first * UNIT, count * UNIT);
    }
  }
}

function runsOf(units: readonly number[]): (readonly [first: number, count: number])[] {
  const runs: [number, number][] = [];
  for (const unit of units) {
    const last = runs.at(-1);
    if (last && last[0] + last[1] === unit) last[1]++;
    else runs.push([unit, 1]);
  }
  return runs;
}
