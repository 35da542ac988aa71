/** Random operations on a volume and its model, as many at the same time as do not conflict. */
import { ok } from 'node:assert/strict';
import type { SeededRandom } from '../../src/base/random.ts';
import { foldersOf, type ModelFile } from './model-names.ts';
import { FILE_MAX, type Handle, type ModelVolume } from './model-volume.ts';

const KiB = 1024;
const PIECE = 64 * KiB;
const CLUSTER = 1024 * KiB;
const NAMES = [
  'a',
  'b',
  'c',
  'd0',
  'd1',
  'a name that is longer than others, so that folders are full sooner',
];

/** An operation, and what nobody else may touch meanwhile. */
interface Step {
  readonly label: string;
  /** Names and folders that it changes, and folders that must stay where they are. */
  readonly exclusive?: readonly string[];
  readonly shared?: readonly string[];
  /** Bytes of a file. */
  readonly range?: { readonly file: ModelFile; readonly from: number; readonly to: number };
  readonly run: () => Promise<unknown>;
}

export class ModelSteps {
  readonly #world: ModelVolume;
  readonly #random: SeededRandom;
  readonly #most: number;
  readonly #hungry: boolean;
  /** What was done, for a failure to tell. */
  readonly log: string[] = [];
  #version = 0;

  /**
   * @param most operations at the same time
   * @param hungry takes much space, so that the volume is full often
   */
  constructor(world: ModelVolume, most: number, hungry: boolean) {
    this.#world = world;
    this.#random = world.random;
    this.#most = most;
    this.#hungry = hungry;
  }

  /** A few operations at once. */
  async batch(): Promise<void> {
    const steps: Step[] = [];
    const wanted = 1 + this.#random.below(this.#most);
    for (let attempt = 0; steps.length < wanted && attempt < wanted * 3; attempt++) {
      const step = this.#random.oneIn(this.#hungry ? 6 : 3) ? this.#nameStep() : this.#contentStep();
      if (step && !steps.some((other) => conflict(step, other))) steps.push(step);
    }
    this.log.push(steps.map(({ label }) => label).join(' | '));
    const results = await Promise.allSettled(steps.map(async ({ run }) => run()));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    await this.#world.settle();
  }

  #path(): string {
    const depth = this.#random.pick([1, 1, 2, 2, 3]);
    return Array.from({ length: depth }, (_, i) =>
      this.#random.pick(i < depth - 1 ? ['d0', 'd1'] : NAMES),
    ).join('/');
  }

  #data(length: number): Buffer {
    const word = Buffer.alloc(4);
    word.writeUInt32LE((Math.imul(++this.#version, 0x9e37_79b1) | 0x0101_0101) >>> 0);
    return Buffer.alloc(length, word);
  }

  #nameStep(): Step | undefined {
    const { names, volume, handles } = this.#world;
    const { files } = volume;
    const path = this.#path();
    const place = `ds:${path}`;
    const second = this.#path();
    const one = { exclusive: [`n:${path}`], shared: foldersOf(path).map((each) => `f:${each}`) };
    const whole = { ...one, exclusive: [`n:${path}`, `f:${path}`] };
    const both = {
      exclusive: [`n:${path}`, `n:${second}`, `f:${path}`, `f:${second}`],
      shared: [...foldersOf(path), ...foldersOf(second)].map((each) => `f:${each}`),
    };
    switch (this.#random.below(14)) {
      case 0:
      case 1:
      case 2:
        return this.#open(path);
      case 3:
        return {
          label: `makeFolder ${path}`,
          ...whole,
          run: () => this.#world.name(names.makeFolder(path), () => files.makeFolder(place)),
        };
      case 4:
        return {
          label: `removeFolder ${path}`,
          ...whole,
          run: () => this.#world.name(names.removeFolder(path), () => files.removeFolder(place)),
        };
      case 5:
      case 6:
      case 7:
        return {
          label: `remove ${path}`,
          ...one,
          run: () => this.#world.name(names.remove(path), () => files.remove(place)),
        };
      case 8:
        return {
          label: `link ${path} ${second}`,
          ...both,
          run: () => this.#world.name(names.link(path, second), () => files.link(place, `ds:${second}`)),
        };
      case 9:
      case 10:
        return {
          label: `rename ${path} ${second}`,
          ...both,
          run: () => this.#world.name(names.rename(path, second), () => files.rename(place, `ds:${second}`)),
        };
      case 11:
        return { label: `replace ${path}`, ...one, run: () => this.#replace(path) };
      case 12: {
        const source = names.file(path);
        if (!source) return undefined;
        const range = { file: source, from: 0, to: Number.POSITIVE_INFINITY };
        return {
          label: `copy ${path} ${second}`,
          ...both,
          range,
          run: () => this.#copy(source, path, second),
        };
      }
      default: {
        const handle = handles.length > 0 ? this.#random.pick(handles) : undefined;
        if (!handle || handles.length < 5) return undefined;
        const range = { file: handle.file, from: 0, to: Number.POSITIVE_INFINITY };
        const exclusive = [`h:${handle.file.id}`];
        return { label: `close ${handle.file.id}`, exclusive, range, run: () => this.#close(handle) };
      }
    }
  }

  #open(path: string): Step {
    const { names, volume, handles } = this.#world;
    const create = this.#random.pick(['exclusive', 'truncate', undefined] as const);
    const there = names.nodes.get(path);
    const file = there?.kind === 'file' ? there : names.makeFile();
    const run = async (): Promise<void> => {
      if (handles.length > 8) return;
      let outcome = names.put(path, file);
      if (there?.kind === 'file') outcome = () => create && this.#world.setSize(file, 0);
      if (there && create === 'exclusive') outcome = 'EXISTS';
      else if (there?.kind === 'folder') outcome = 'USAGE';
      else if (!there && !create) outcome = 'NOT_FOUND';
      await this.#world.name(outcome, async () => {
        const device = await volume.files.open(`ds:${path}`, create ? { create } : {});
        handles.push({ file, device });
      });
    };
    const shared = foldersOf(path).map((each) => `f:${each}`);
    const range = { file, from: 0, to: Number.POSITIVE_INFINITY };
    return { label: `open ${path} ${create}`, exclusive: [`n:${path}`], shared, range, run };
  }

  async #close(handle: Handle): Promise<void> {
    const { handles } = this.#world;
    handles.splice(handles.indexOf(handle), 1);
    await handle.device.close();
  }

  async #replace(path: string): Promise<void> {
    const { names, volume } = this.#world;
    const content = this.#data(this.#random.pick([0, 5, 3904, 3905, 70_000]));
    const file = names.makeFile();
    this.#world.put(file, 0, content);
    await this.#world.name(names.put(path, file), () => volume.files.replace(`ds:${path}`, content));
  }

  async #copy(source: ModelFile, path: string, target: string): Promise<void> {
    const { names, volume } = this.#world;
    const file = names.makeFile();
    this.#world.put(file, 0, source.content.subarray(0, source.size));
    const outcome = names.put(target, file);
    const taken = outcome !== 'NOT_FOUND' && names.nodes.has(target);
    const copy = (): Promise<unknown> => volume.files.copy(`ds:${path}`, `ds:${target}`);
    await this.#world.name(taken ? 'EXISTS' : outcome, copy);
  }

  #contentStep(): Step | undefined {
    const { handles, volume } = this.#world;
    const random = this.#random;
    if (random.oneIn(12)) return { label: 'syncFolder', run: () => volume.files.syncFolder('ds:') };
    if (handles.length === 0 || (handles.length < 5 && random.oneIn(3))) return this.#open(this.#path());
    const handle = random.pick(handles);
    const { file, device } = handle;
    const from = this.#offset(file);
    const length = Math.min(this.#length(), FILE_MAX - from);
    const range = { file, from, to: from + length };
    const inside = { ...range, to: Math.min(range.to, file.size) };
    const what = `${file.id} ${from}+${length}`;
    switch (random.below(12)) {
      case 0:
        return { label: 'flush', shared: [`h:${file.id}`], run: async () => device.flush() };
      case 1: {
        const size = random.oneIn(2) ? this.#offset(file) : file.size + random.below(3 * CLUSTER);
        return this.#resize(handle, Math.min(size, FILE_MAX));
      }
      case 2:
      case 3: {
        const keepAllocated = random.oneIn(2);
        const zero = (): unknown => device.writeZeroes(from, length, { keepAllocated });
        const run = (): Promise<void> => this.#world.change(handle, from, Buffer.alloc(length), zero);
        return { label: `zero ${keepAllocated ? 'keep ' : ''}${what}`, range, run };
      }
      case 4:
      case 5: {
        if (inside.to <= from) return undefined;
        const size = inside.to - from;
        const discard = (): unknown => device.discard(from, size);
        const run = (): Promise<void> => this.#world.change(handle, from, Buffer.alloc(size), discard, false);
        return { label: `discard ${file.id} ${from}+${size}`, range: inside, run };
      }
      case 6: {
        if (inside.to <= from) return undefined;
        return {
          label: `read ${what}`,
          range: inside,
          run: () => this.#read(handle, from, inside.to - from),
        };
      }
      default: {
        const data = this.#data(length);
        const run = (): Promise<void> =>
          this.#world.change(handle, from, data, () => device.pwrite(data, from));
        return { label: `write ${what}`, range, run };
      }
    }
  }

  #resize(handle: Handle, size: number): Step {
    const { file, device } = handle;
    const resized = (): void => this.#world.setSize(file, size);
    const run = (): Promise<boolean> => this.#world.name(resized, async () => device.resize(size));
    const range = { file, from: 0, to: Number.POSITIVE_INFINITY };
    return { label: `resize ${file.id} ${size}`, range, run };
  }

  async #read({ file, device }: Handle, from: number, length: number): Promise<void> {
    const buffer = Buffer.alloc(length, 0xee);
    await device.pread(buffer, from);
    ok(buffer.equals(file.content.subarray(from, from + length)), `file ${file.id} reads wrong at ${from}`);
  }

  /** Somewhere near a border, at the end of the file, or anywhere. */
  #offset(file: ModelFile): number {
    const random = this.#random;
    const near = random.pick([0, PIECE, CLUSTER, 2 * CLUSTER, file.size, file.size, random.below(FILE_MAX)]);
    const step = random.pick([0, 0, 1, 512, 4096]);
    return Math.max(0, Math.min(FILE_MAX - 1, near + step * (random.below(9) - 4)));
  }

  #length(): number {
    const random = this.#random;
    if (this.#hungry && random.oneIn(2)) return 2 * CLUSTER + random.below(4 * CLUSTER);
    return 1 + random.below(random.pick([1, 512, 4096, 2 * PIECE, 2 * PIECE, CLUSTER, 3 * CLUSTER]));
  }
}

function conflict(one: Step, other: Step): boolean {
  const { exclusive = [], shared = [] } = one;
  const [theirs, theirShared] = [other.exclusive ?? [], other.shared ?? []];
  if (exclusive.some((key) => theirs.includes(key) || theirShared.includes(key))) return true;
  if (shared.some((key) => theirs.includes(key))) return true;
  if (!one.range || !other.range || one.range.file !== other.range.file) return false;
  return one.range.from < other.range.to && other.range.from < one.range.to;
}
