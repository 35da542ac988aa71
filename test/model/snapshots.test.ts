/**
 * Families of disks against models: snapshots, reverts, deletions in any order, linked clones of disks and of
 * snapshots, with writes and resizes in between. After each operation every disk and every snapshot reads as its
 * model says.
 */
import { basename, join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { makeFolder, removeFolder } from '../../src/device/files.ts';
import {
  checkImage,
  cloneImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  isVimgError,
  type LayerSnapshot,
  listSnapshots,
  openImage,
  revertSnapshot,
} from '../../src/index.ts';
import { ModelDisk } from '../../src/testing/index.ts';
import { datastoreForTests, emptyFolder } from './chain-place.ts';

const KiB = 1024;
const EFFORT = Number(process.env['VIMG_MODEL_EFFORT'] ?? 1);
const STEPS = 30;
const SIZE_MAX = 1200 * KiB;

interface Member {
  readonly path: string;
  model: ModelDisk;
}

let folder: { path: string; cleanup: () => Promise<void> };
beforeAll(async () => {
  folder = await dir({ prefix: 'vimg-family-', unsafeCleanup: true });
});
afterAll(() => folder.cleanup());

/** The snapshots that are the disk's own: a clone lists those of its source as well. */
async function own(path: string): Promise<LayerSnapshot[]> {
  const listed = await listSnapshots(path);
  return listed.filter((snapshot) => basename(snapshot.path).startsWith(`${basename(path, '.vvd')}@`));
}

class Family {
  readonly #random: SeededRandom;
  readonly #folder: string;
  readonly #members: Member[] = [];
  #names = 0;
  log: string[] = [];

  constructor(seed: number, at: string) {
    this.#random = new SeededRandom(seed);
    this.#folder = at;
  }

  #size(): number {
    return 512 * (1 + this.#random.below(SIZE_MAX / 512));
  }

  async start(): Promise<void> {
    const path = join(this.#folder, 'root.vvd');
    const size = this.#size();
    const blockSize = this.#random.pick([64, 128]) * KiB;
    await createImage(path, { format: 'vvd', size, options: { block_size: blockSize } });
    this.#members.push({ path, model: new ModelDisk(size, { discardUnit: blockSize / 32 }) });
  }

  async step(): Promise<void> {
    const random = this.#random;
    const member = random.pick(this.#members);
    const names = member.model.snapshots;
    const kind = random.below(20);
    if (kind < 4) return this.#snapshot(member);
    if (kind < 6 && names.length > 0) return this.#revert(member, random.pick(names));
    if (kind < 10 && names.length > 0) return this.#delete(member, random.pick(names));
    if (kind < 12 && this.#members.length < 4) {
      return this.#clone(member, random.oneIn(2) && names.length > 0 ? random.pick(names) : undefined);
    }
    return this.#change(member);
  }

  async #snapshot(member: Member): Promise<void> {
    const name = `s${this.#names++}`;
    this.log.push(`snapshot ${name} of ${member.path}`);
    await createSnapshot([member.path], name);
    member.model.takeSnapshot(name);
  }

  async #revert(member: Member, name: string): Promise<void> {
    this.log.push(`revert ${member.path} to ${name}`);
    await revertSnapshot(member.path, name);
    member.model.revert(name);
  }

  /** Refused while clones, or what a revert left aside, stand on it. */
  async #delete(member: Member, name: string): Promise<void> {
    this.log.push(`delete ${name} of ${member.path}`);
    try {
      await deleteSnapshot(member.path, name);
    } catch (error) {
      if (!isVimgError(error, 'LOCKED')) throw error;
      this.log.push('  refused');
      return;
    }
    member.model.deleteSnapshot(name);
  }

  /** A clone of a disk that is written takes a snapshot with a name of its own. */
  async #clone(member: Member, snapshot: string | undefined): Promise<void> {
    const path = join(this.#folder, `clone${this.#members.length}.vvd`);
    this.log.push(`clone ${member.path}@${snapshot ?? ''} to ${path}`);
    const blockSize = this.#random.pick([64, 128, 256]) * KiB;
    const options = { block_size: blockSize };
    await cloneImage(member.path, path, snapshot === undefined ? { options } : { snapshot, options });
    const { content, size } = member.model.clone(snapshot);
    this.#members.push({ path, model: new ModelDisk(size, { content, discardUnit: blockSize / 32 }) });
    for (const { name } of await own(member.path)) {
      if (!member.model.snapshots.includes(name)) member.model.takeSnapshot(name);
    }
  }

  async #change({ path, model }: Member): Promise<void> {
    const random = this.#random;
    this.log.push(`change ${path}`);
    await using disk = await openImage(path, { readOnly: false });
    for (let i = random.below(4); i >= 0; i--) {
      if (random.oneIn(4)) {
        const size = this.#size();
        this.log.push(`  resize to ${size}`);
        await disk.resize(size);
        model.resize(size);
      }
      const offset = random.below(model.size);
      const length = Math.min(model.size - offset, 1 + random.below(random.pick([600, 9000, 200_000])));
      this.log.push(`  ${length} at ${offset}`);
      switch (random.below(5)) {
        case 0:
          await disk.writeZeroes(offset, length);
          model.zero(offset, length);
          break;
        case 1:
          await disk.discard(offset, length);
          model.discard(offset, length);
          break;
        default: {
          const data = random.fill(new Uint8Array(length));
          await disk.pwrite(data, offset);
          model.write(offset, data);
        }
      }
    }
  }

  async verify(): Promise<void> {
    for (const { path, model } of this.#members) {
      await using disk = await openImage(path);
      await model.compare(disk);
      const listed = await own(path);
      expect(listed.map(({ name }) => name).sort()).toEqual([...model.snapshots].sort());
      for (const { name, path: layer } of listed) {
        await using snapshot = await openImage(layer);
        await model.clone(name).compare(snapshot);
      }
      const { findings } = await checkImage(path);
      expect(findings).toEqual([]);
    }
  }
}

/** @param at a folder that is there for this run only */
async function run(seed: number, at: string, steps: number): Promise<void> {
  await makeFolder(at);
  const family = new Family(seed, at);
  await family.start();
  try {
    for (let i = 0; i < steps; i++) {
      await family.step();
      await family.verify();
    }
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${family.log.join('\n')}`, { cause: error });
  } finally {
    await emptyFolder(at);
    await removeFolder(at);
  }
}

const seeds = (count: number): number[] => Array.from({ length: count * EFFORT }, (_, i) => i);

describe('a family of disks', () => {
  it.each(seeds(8))('reads as its models (seed %i)', (seed) =>
    run(seed, join(folder.path, String(seed)), STEPS),
  );
});

describe('a family of disks in a datastore on a LUN', () => {
  datastoreForTests();
  it.each(seeds(1))('reads as its models (seed %i)', (seed) => run(seed, `ds1:${seed}`, STEPS));
});
