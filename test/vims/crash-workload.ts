/** Random work on a recorded volume, with its history: what a crash is judged by afterwards. */
import { ok } from 'node:assert/strict';
import { isVimgError } from '../../src/base/errors.ts';
import type { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { SECTOR, SectorHistory } from '../../src/testing/index.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { randomSpan, type Span, wideSpan, zeroHistory } from './crash-spans.ts';
import { type CrashFile, type CrashWorld, readWindows } from './crash-world.ts';
import { parentOf } from './model-names.ts';

const MiB = 1024 * 1024;
const NAMES = ['a', 'b', 'c', 'd', 'a name that is longer than others, so that folders are full sooner'];
const FOLDERS = ['', '', 'x', 'y'];
const HANDLES = 5;

interface Handle {
  readonly file: CrashFile;
  readonly device: DiskFile;
  readonly busy: Set<Span>;
}

/** A device that may be added to the volume. */
export interface Spare {
  readonly device: BlockDevice;
  readonly added: () => void;
}

export interface WorkloadParts {
  readonly world: CrashWorld;
  readonly random: SeededRandom;
  readonly devices: readonly BlockDevice[];
  /** Operations at the same time. */
  readonly most: number;
  /** Makes a device that may be added, and is told when it was. */
  readonly spare?: () => Spare;
}

export class CrashWorkload {
  readonly #world: CrashWorld;
  readonly #random: SeededRandom;
  readonly #devices: BlockDevice[];
  readonly #most: number;
  readonly #spare: (() => Spare) | undefined;
  readonly #handles: Handle[] = [];
  readonly #underWay = new Set<Promise<unknown>>();
  volume!: VimsVolume;
  /** A change failed whose end cannot be told: the volume must be left. */
  broken = false;

  constructor({ world, random, devices, most, spare }: WorkloadParts) {
    this.#world = world;
    this.#random = random;
    this.#devices = [...devices];
    this.#most = most;
    this.#spare = spare;
  }

  async attach(): Promise<void> {
    this.volume = await VimsVolume.attach('ds', this.#devices);
  }

  async run(steps: number): Promise<void> {
    for (let i = 0; i < steps; i++) await this.step();
    await this.quiet();
  }

  /** Waits until nothing is under way. */
  async quiet(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  async detach(): Promise<void> {
    await this.quiet();
    if (this.#random.oneIn(2)) await this.closeAll();
    await this.#world.flush(() => this.volume.detach());
    this.#handles.length = 0;
  }

  async closeAll(): Promise<void> {
    for (const { device } of this.#handles.splice(0)) await device.close();
  }

  async step(): Promise<void> {
    const random = this.#random;
    while (this.#underWay.size >= this.#most) await Promise.race(this.#underWay);
    const kind = random.below(100);
    if (kind < 8) await this.#begin(this.#flush());
    else if (kind === 8) await this.#unlessBroken(() => this.#reattach());
    else if (kind === 9 && this.#spare && this.#devices.length < 3 && random.oneIn(3))
      await this.#addDevice();
    else if (kind < 34) await this.#unlessBroken(() => this.#changeNames());
    else if (kind < 40 || this.#handles.length === 0) await this.#unlessBroken(() => this.#open());
    else await this.#changeContent(random.pick(this.#handles));
  }

  async #unlessBroken(work: () => Promise<void>): Promise<void> {
    this.broken = true;
    await work();
    this.broken = false;
  }

  async #reattach(): Promise<void> {
    await this.detach();
    await this.attach();
  }

  async #begin(work: Promise<unknown>): Promise<void> {
    const done: Promise<unknown> = work.finally(() => this.#underWay.delete(done));
    this.#underWay.add(done);
    if (this.#most === 1) await done;
  }

  #flush(): Promise<void> {
    const handle =
      this.#handles.length > 0 && this.#random.oneIn(2) ? this.#random.pick(this.#handles) : undefined;
    return this.#world.flush(() => (handle ? handle.device.flush() : this.volume.files.syncFolder('ds:')));
  }

  async #addDevice(): Promise<void> {
    await this.quiet();
    const { device, added } = (this.#spare as () => Spare)();
    await this.volume.addDevice(device);
    added();
    this.#devices.push(device);
  }

  #path(): string {
    const folder = this.#random.pick(FOLDERS);
    return folder === '' ? this.#random.pick(NAMES) : `${folder}/${this.#random.pick(NAMES)}`;
  }

  /** A path with a file, and one whose folder is there. */
  #paths(): { path: string; file: CrashFile; target: string } | undefined {
    const { names } = this.#world;
    const files = [...names].filter(([, file]) => file !== undefined);
    const target = this.#path();
    if (files.length === 0 || !this.#hasFolder(target)) return undefined;
    const [path, file] = this.#random.pick(files);
    return { path, file: file as CrashFile, target };
  }

  #hasFolder(path: string): boolean {
    return parentOf(path) === '' || this.#world.names.has(parentOf(path));
  }

  async #open(): Promise<void> {
    const { names } = this.#world;
    const path = this.#path();
    if (!this.#hasFolder(path)) return;
    if (this.#handles.length >= HANDLES) {
      const idle = this.#handles.findIndex(({ busy }) => busy.size === 0);
      if (idle < 0) return;
      const [handle] = this.#handles.splice(idle, 1);
      await handle?.device.close();
    }
    const { files } = this.volume;
    const there = names.get(path);
    if (there) {
      this.#handles.push({ file: there, device: await files.open(`ds:${path}`, {}), busy: new Set() });
      return;
    }
    const file = this.#world.makeFile();
    await this.#world.rename(new Map([...names, [path, file]]), async () => {
      const device = await files.open(`ds:${path}`, { create: 'exclusive' });
      this.#handles.push({ file, device, busy: new Set() });
    });
  }

  async #changeNames(): Promise<void> {
    const random = this.#random;
    const { names } = this.#world;
    const { files } = this.volume;
    const kind = random.below(10);
    if (kind < 2) return this.#changeFolders(random.pick(['x', 'y']));
    if (kind === 2) return this.#replace();
    const paths = this.#paths();
    if (!paths) return;
    const { path, file, target } = paths;
    const next = new Map(names);
    switch (kind) {
      case 3:
      case 4:
        next.delete(path);
        await this.#world.rename(next, () => files.remove(`ds:${path}`));
        return;
      case 5:
        if (names.has(target)) return;
        await this.#world.rename(next.set(target, file), () => files.link(`ds:${path}`, `ds:${target}`));
        return;
      case 6:
      case 7:
        if (path === target) return;
        next.delete(path);
        await this.#world.rename(next.set(target, file), () => files.rename(`ds:${path}`, `ds:${target}`));
        return;
      default:
        await this.#copy(path, file, target);
    }
  }

  async #changeFolders(folder: string): Promise<void> {
    const { names } = this.#world;
    const { files } = this.volume;
    const next = new Map(names);
    const inside = [...names.keys()].filter((path) => path.startsWith(`${folder}/`));
    const other = folder === 'x' ? 'y' : 'x';
    if (!names.has(folder)) {
      await this.#world.rename(next.set(folder, undefined), () => files.makeFolder(`ds:${folder}`));
    } else if (inside.length === 0) {
      next.delete(folder);
      await this.#world.rename(next, () => files.removeFolder(`ds:${folder}`));
    } else if (!names.has(other)) {
      for (const path of [folder, ...inside]) {
        next.delete(path);
        next.set(other + path.slice(folder.length), names.get(path));
      }
      await this.#world.rename(next, () => files.rename(`ds:${folder}`, `ds:${other}`));
    }
  }

  async #replace(): Promise<void> {
    const path = this.#path();
    if (!this.#hasFolder(path)) return;
    const data = new Uint8Array(SECTOR * (1 + this.#random.below(this.#random.pick([7, 16]))));
    const words = new Uint32Array(data.buffer);
    const file = this.#world.makeFile(data.length, (sector) => words[(sector * SECTOR) / 4] ?? 0);
    // words of its own, below those of the writes that come later
    new SectorHistory(
      () => 0,
      () => 0,
      file.firstVersion - 1,
    ).write(0, data);
    const next = new Map(this.#world.names).set(path, file);
    await this.#world.rename(next, () => this.volume.files.replace(`ds:${path}`, data), true);
  }

  async #copy(path: string, source: CrashFile, target: string): Promise<void> {
    if (this.#world.names.has(target)) return;
    await this.#idle(source);
    const words = new Map<number, number>();
    const device = await this.volume.files.open(`ds:${path}`, { readOnly: true });
    const problem = await readWindows(device, source.history.present(), words);
    ok(problem === undefined, `file ${source.id}, as it is open: ${problem}`);
    const file = this.#world.makeFile(device.size, (sector) => words.get(sector) ?? 0);
    await device.close();
    const next = new Map(this.#world.names).set(target, file);
    await this.#world.rename(next, () => this.volume.files.copy(`ds:${path}`, `ds:${target}`));
  }

  /** Waits until nothing is under way in a file. */
  async #idle(file: CrashFile): Promise<void> {
    if (this.#handles.some((handle) => handle.file === file && handle.busy.size > 0)) await this.quiet();
  }

  async #changeContent(handle: Handle): Promise<void> {
    const random = this.#random;
    const kind = random.below(12);
    if (kind === 0) return this.#resize(handle);
    const span = kind < 4 ? wideSpan(random, handle.file) : randomSpan(this.#random);
    const { from, to } = span;
    const { file, device } = handle;
    const inUse = this.#handles.some(
      (other) => other.file === file && [...other.busy].some((each) => each.from < to && from < each.to),
    );
    if (inUse) return;
    if (kind < 2) {
      if (to > file.size) return;
      // parts of pieces stay as they are: it is never sure that something became zero
      zeroHistory(file, span);
      await this.#run(handle, span, async () => device.discard(from, to - from));
      return;
    }
    const grows = to > file.size ? file.resizing(to, true) : undefined;
    if (kind < 4) {
      const settle = zeroHistory(file, span);
      const options = { keepAllocated: random.oneIn(3) };
      await this.#run(handle, span, async () => device.writeZeroes(from, to - from, options), settle, grows);
      return;
    }
    const data = new Uint8Array(to - from);
    const operation = file.history.write(from, data);
    const settle = (): void => file.history.settle(operation);
    await this.#run(handle, span, async () => device.pwrite(data, from), settle, grows);
  }

  async #run(
    handle: Handle,
    span: Span,
    work: () => Promise<void>,
    ...succeeded: ((() => void) | undefined)[]
  ): Promise<void> {
    handle.busy.add(span);
    const run = async (): Promise<void> => {
      try {
        await work();
        for (const settle of succeeded) settle?.();
      } catch (error) {
        if (!isVimgError(error, 'NO_SPACE')) throw error;
      } finally {
        handle.busy.delete(span);
      }
    };
    await this.#begin(run());
  }

  async #resize({ file, device }: Handle): Promise<void> {
    await this.#idle(file);
    const { from, to } = randomSpan(this.#random);
    const size = this.#random.oneIn(3) ? file.size + to - from : to;
    if (size > 489 * MiB) return;
    const cut = zeroHistory(file, { from: size, to: Number.MAX_SAFE_INTEGER });
    const settle = file.resizing(size, false);
    try {
      await device.resize(size);
    } catch (error) {
      if (!isVimgError(error, 'NO_SPACE')) throw error;
      return;
    }
    settle();
    cut();
  }
}
