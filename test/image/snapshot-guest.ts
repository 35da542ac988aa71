/** A disk of a place in memory, with snapshots, and all that its guest knows of it. */
import { expect } from 'vitest';
import { formats } from '../../formats/index.ts';
import type { SeededRandom } from '../../src/base/random.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { deleteOpenSnapshot, snapshotOpenDisks } from '../../src/image/open-disks.ts';
import type { HookedFiles } from './hooked-files.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 6 * MiB;
/** Files are in a place of this name. */
export const DISK = 'place:disk.vvd';

async function openNew(options: Record<string, string | number> = {}): Promise<DiskImage> {
  await createImage(DISK, { formats, format: 'vvd', size: SIZE, options });
  return reopen();
}

export function reopen(): Promise<DiskImage> {
  return DiskImage.open(DISK, { formats, readOnly: false, blocking: false });
}

export async function content(path: string): Promise<Buffer> {
  await using disk = await DiskImage.open(path, { formats });
  return await read(disk);
}

async function read(disk: DiskImage): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.size);
  await disk.pread(bytes, 0);
  return bytes;
}

/** Every file of the place is sound by itself, but for what is said to be excused. */
export async function expectSound(files: HookedFiles, mounted = 'place', excused = ''): Promise<void> {
  for (const name of await files.list(`${mounted}:`)) {
    await using disk = await DiskImage.open(`${mounted}:${name}`, { formats });
    const { findings = [] } = (await formats.get('vvd').check?.(disk.top.file, {})) ?? {};
    expect(findings.filter(({ kind }) => kind !== excused)).toEqual([]);
  }
}

/** A disk with what its guest knows of it, and what it was at its snapshots. */
export class Guest {
  disk: DiskImage;
  model: Buffer = Buffer.alloc(SIZE);
  readonly snapshots: Map<string, Buffer> = new Map();
  /** Requests that ended. */
  requests: number = 0;
  #running = false;
  readonly #random: SeededRandom;

  constructor(disk: DiskImage, random: SeededRandom) {
    this.disk = disk;
    this.#random = random;
  }

  async fill(writes: number): Promise<void> {
    for (let i = 0; i < writes; i++) {
      const size = 1 + this.#random.below(60 * KiB);
      const at = this.#random.below(this.model.length - size);
      if (this.#random.oneIn(5)) await this.#zero(at, size);
      else await this.#write(at, size);
    }
  }

  async #write(at: number, size: number): Promise<void> {
    const data = Buffer.alloc(size, 1 + this.#random.below(255));
    await this.disk.pwrite(data, at);
    data.copy(this.model, at);
  }

  async #zero(at: number, size: number): Promise<void> {
    await this.disk.writeZeroes(at, size);
    this.model.fill(0, at, at + size);
  }

  async snapshot(name: string): Promise<void> {
    await snapshotOpenDisks([this.disk], [], name, formats);
    this.snapshots.set(name, Buffer.from(this.model));
  }

  async grow(bytes: number): Promise<void> {
    await this.disk.resize(this.model.length + bytes);
    this.model = Buffer.concat([this.model, Buffer.alloc(bytes)]);
  }

  /** Reads, writes and zeroes at random while `work` goes on, each of four in a part of its own. */
  async meanwhile<T>(work: Promise<T>): Promise<T> {
    this.#running = true;
    const length = Math.floor(this.model.length / 4);
    const parts = [0, 1, 2, 3].map((part) => this.#run(part * length, length));
    try {
      return await work;
    } finally {
      this.#running = false;
      await Promise.all(parts);
    }
  }

  async #run(from: number, length: number): Promise<void> {
    for (; this.#running; this.requests++) {
      const size = 1 + this.#random.below(20 * KiB);
      const at = from + this.#random.below(length - size);
      const kind = this.#random.below(8);
      if (kind === 0) await this.#zero(at, size);
      else if (kind < 3) await this.#write(at, size);
      else {
        const seen = Buffer.alloc(size);
        await this.disk.pread(seen, at);
        expect(seen.equals(this.model.subarray(at, at + size))).toBe(true);
      }
      if (this.#random.oneIn(10)) await this.disk.flush();
      await new Promise(setImmediate);
    }
  }

  /** The disk and each of its snapshots reads as it should. */
  async verify(): Promise<void> {
    expect((await read(this.disk)).equals(this.model)).toBe(true);
    for (const [name, expected] of this.snapshots)
      expect([name, (await content(`place:disk@${name}.vvd`)).equals(expected)]).toEqual([name, true]);
  }

  async delete(name: string): Promise<void> {
    await deleteOpenSnapshot(this.disk, name, formats);
    this.snapshots.delete(name);
  }
}

/** Its snapshots, oldest first. */
export const NAMES: readonly string[] = ['one', 'two', 'three', 'four'];

/** A disk with four snapshots; it grows in between. */
export async function guestWithSnapshots(random: SeededRandom): Promise<Guest> {
  const guest = new Guest(await openNew({ block_size: random.pick([64 * KiB, 128 * KiB, MiB]) }), random);
  for (const name of NAMES) {
    await guest.fill(30);
    if (random.oneIn(3)) await guest.grow(random.below(64) * 16 * KiB);
    await guest.snapshot(name);
  }
  await guest.fill(10);
  return guest;
}
