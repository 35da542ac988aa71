/**
 * A volume on recorded devices, with the history of everything that was done: which names there were after each change
 * of names, what each sector of each file was given and when, and which flushes were acknowledged.
 */
import { equal, ok } from 'node:assert/strict';
import { isVimgError } from '../../src/base/errors.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import type { RecordedEvent } from '../../src/device/recording-device.ts';
import { SECTOR, SectorHistory, type SectorPromise } from '../../src/testing/index.ts';
import type { VimsVolume } from '../../src/vims/volume.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** The parts of a file that are used: around the borders of pieces, clusters, and what the inode itself can map. */
export const WINDOWS: readonly { offset: number; length: number }[] = [
  { offset: 0, length: 8 * KiB },
  { offset: 60 * KiB, length: 8 * KiB },
  { offset: MiB - 8 * KiB, length: 16 * KiB },
  { offset: 488 * MiB - 4 * KiB, length: 8 * KiB },
];

/** Writes of one file are counted from a number of its own, so that no two files have a word in common. */
const VERSIONS_EACH = 400;

/** A size that a file was given: it was set, or the file grew to hold a write. */
interface SizeChange {
  readonly value: number;
  readonly grows: boolean;
  readonly since: number;
  settled: number;
}

/** When a flush was called and acknowledged. */
interface Flush {
  readonly called: number;
  readonly since: number;
}

/** A file, from when it was made until long after its name is gone. */
export class CrashFile {
  readonly id: number;
  /** Writes that are part of its beginning have a word below this. */
  readonly firstVersion: number;
  readonly history: SectorHistory;
  readonly sizes: SizeChange[];
  size: number;
  readonly #world: CrashWorld;

  constructor(world: CrashWorld, id: number, size: number, initial: (sector: number) => number) {
    this.id = id;
    this.size = size;
    this.#world = world;
    this.firstVersion = id * VERSIONS_EACH;
    this.history = new SectorHistory(initial, () => world.position, this.firstVersion);
    this.sizes = [{ value: size, grows: false, since: -1, settled: -1 }];
  }

  /** Says that the size is about to be another one. @returns to be called when it is */
  resizing(value: number, grows: boolean): () => void {
    const change = { value, grows, since: this.#world.position, settled: Number.POSITIVE_INFINITY };
    this.sizes.push(change);
    return () => {
      change.settled = this.#world.tick();
      this.size = grows ? Math.max(this.size, value) : value;
    };
  }

  /** Sizes that it may have after a crash. */
  sizesAt(position: number): Set<number> {
    const covered = this.#world.coveredAt(position);
    let possible = new Set<number>();
    for (const { value, grows, since, settled } of this.sizes) {
      if (since > position) continue;
      const after = grows ? [...possible].map((size) => Math.max(size, value)) : [value];
      possible = new Set(settled < covered ? after : [...possible, ...after]);
    }
    return possible;
  }
}

/** What names stood for, from one change of names to the next. */
export interface NameState {
  /** Undefined for a folder. */
  readonly names: ReadonlyMap<string, CrashFile | undefined>;
  /** Position when the change that led to it began. */
  readonly since: number;
  settled: number;
}

export class CrashWorld {
  readonly events: RecordedEvent[];
  readonly files: CrashFile[] = [];
  readonly states: NameState[];
  readonly #flushes: Flush[] = [];
  readonly #firstId: number;
  #clock = 0;

  /** @param firstId of its files: those of several worlds must not have words in common */
  constructor(events: RecordedEvent[], firstId = 1) {
    this.events = events;
    this.#firstId = firstId;
    this.states = [{ names: new Map(), since: -1, settled: -1 }];
  }

  /** Begins with what was found. */
  begin({ names, files }: Found): void {
    const made = new Map<string, CrashFile>();
    const named = new Map<string, CrashFile | undefined>();
    for (const [path, identity] of names) {
      const found = identity === undefined ? undefined : (files.get(identity) as FoundFile);
      if (identity === undefined || !found) {
        named.set(path, undefined);
        continue;
      }
      const file = made.get(identity) ?? this.makeFile(found.size, (sector) => found.words.get(sector) ?? 0);
      made.set(identity, file);
      named.set(path, file);
    }
    this.states[0] = { names: named, since: -1, settled: -1 };
  }

  get nextId(): number {
    return this.#firstId + this.files.length;
  }

  get position(): number {
    return this.events.length;
  }

  get names(): ReadonlyMap<string, CrashFile | undefined> {
    return (this.states.at(-1) as NameState).names;
  }

  tick(): number {
    return ++this.#clock;
  }

  makeFile(size = 0, initial: (sector: number) => number = () => 0): CrashFile {
    const file = new CrashFile(this, this.nextId, size, initial);
    this.files.push(file);
    return file;
  }

  /**
   * Changes names; one change at a time. When there is no space, nothing changed.
   *
   * @param durable whether it is durable by itself, and with it everything that ended before it began
   */
  async rename(
    names: ReadonlyMap<string, CrashFile | undefined>,
    work: () => Promise<unknown>,
    durable = false,
  ): Promise<boolean> {
    const state = { names, since: this.position, settled: Number.POSITIVE_INFINITY };
    this.states.push(state);
    const began = this.tick();
    try {
      if (durable) await this.flush(work);
      else await work();
    } catch (error) {
      if (!isVimgError(error, 'NO_SPACE')) throw error;
      this.states.pop();
      return false;
    }
    state.settled = durable ? began : this.tick();
    return true;
  }

  /** Does what makes everything durable that ended before. */
  async flush(work: () => unknown): Promise<void> {
    const called = this.tick();
    const files = this.files.map((file) => [file, file.history.flushCalled()] as const);
    await work();
    this.#flushes.push({ called, since: this.position });
    for (const [file, at] of files) file.history.flushed(at);
  }

  /** The tick before which everything is certain after a crash. */
  coveredAt(position: number): number {
    let covered = 0;
    for (const { called, since } of this.#flushes) if (since <= position) covered = Math.max(covered, called);
    return covered;
  }

  /** The names that there may be after a crash. */
  namesAt(position: number): NameState[] {
    const covered = this.coveredAt(position);
    let first = 0;
    for (const [i, { settled }] of this.states.entries()) if (settled < covered) first = i;
    return this.states.slice(first).filter(({ since }) => since <= position);
  }
}

/** What may be found after a crash. */
export interface Expectation {
  readonly names: readonly NameState[];
  readonly sizes: (file: CrashFile) => Set<number>;
  readonly promise: (file: CrashFile) => SectorPromise;
}

export function expectationAt(world: CrashWorld, position: number = Number.MAX_SAFE_INTEGER): Expectation {
  const promises = new Map<CrashFile, SectorPromise>();
  return {
    names: world.namesAt(position),
    sizes: (file) => file.sizesAt(position),
    promise: (file) => {
      const known = promises.get(file) ?? file.history.promiseAt(position);
      promises.set(file, known);
      return known;
    },
  };
}

/** A file as it was found. */
export interface FoundFile {
  readonly size: number;
  /** First word of each sector in the windows, by its number. */
  readonly words: ReadonlyMap<number, number>;
}

/** What was found: names, and files by what tells them apart. */
export interface Found {
  readonly names: ReadonlyMap<string, string | undefined>;
  readonly files: ReadonlyMap<string, FoundFile>;
}

/** Reads everything, and compares it with what may be there. @throws AssertionError */
export async function lookAt(volume: VimsVolume, expected: Expectation): Promise<Found> {
  const names = new Map<string, string | undefined>();
  await listInto(volume, '', names);
  const seen = [...names].map(([path, identity]) => `${path}${identity === undefined ? '/' : ''}`);
  const fitting = expected.names.filter((state) => sameNames(state, names));
  ok(fitting.length > 0, `names ${seen.join(', ')} are those after none of ${expected.names.length} changes`);
  const files = new Map<string, FoundFile>();
  const problems: string[] = [];
  for (const state of fitting) {
    const problem = await findProblem(volume, expected, state, names, files);
    if (problem === undefined) return { names, files };
    problems.push(problem);
  }
  ok(false, problems.join('; or '));
}

async function listInto(
  volume: VimsVolume,
  folder: string,
  names: Map<string, string | undefined>,
): Promise<void> {
  for (const name of await volume.files.list(`ds:${folder}`)) {
    const path = folder === '' ? name : `${folder}/${name}`;
    const status = await volume.files.status(`ds:${path}`);
    ok(status, `'${path}' is listed, and is not there`);
    names.set(path, status.kind === 'folder' ? undefined : status.identity);
    if (status.kind === 'folder') await listInto(volume, path, names);
  }
}

/** The same names, of the same kinds; names of one file are names of one file, and of no other. */
function sameNames(state: NameState, names: ReadonlyMap<string, string | undefined>): boolean {
  if (state.names.size !== names.size) return false;
  const identities = new Map<CrashFile, string>();
  const taken = new Set<string>();
  for (const [path, file] of state.names) {
    if (!names.has(path)) return false;
    const identity = names.get(path);
    if ((file === undefined) !== (identity === undefined)) return false;
    if (file === undefined || identity === undefined) continue;
    const known = identities.get(file);
    if (known === undefined ? taken.has(identity) : known !== identity) return false;
    identities.set(file, identity);
    taken.add(identity);
  }
  return true;
}

async function findProblem(
  volume: VimsVolume,
  expected: Expectation,
  { names }: NameState,
  identities: ReadonlyMap<string, string | undefined>,
  files: Map<string, FoundFile>,
): Promise<string | undefined> {
  for (const [path, file] of names) {
    const identity = identities.get(path);
    if (!file || identity === undefined) continue;
    const device = await volume.files.open(`ds:${path}`, { readOnly: true });
    try {
      const problem = await fileProblem(device, file, expected, (found) => files.set(identity, found));
      if (problem !== undefined) return `'${path}', file ${file.id}: ${problem}`;
    } finally {
      await device.close();
    }
  }
  return undefined;
}

async function fileProblem(
  device: DiskFile,
  file: CrashFile,
  expected: Expectation,
  found: (file: FoundFile) => void,
): Promise<string | undefined> {
  const { size } = device;
  const sizes = expected.sizes(file);
  if (!sizes.has(size)) return `it has ${size} bytes, allowed are ${[...sizes].join(', ')}`;
  const words = new Map<number, number>();
  const problem = await readWindows(device, expected.promise(file), words);
  if (problem !== undefined) return problem;
  equal(device.size, size);
  found({ size, words });
  return undefined;
}

/** Reads the windows of a file into words of its sectors. @returns what is wrong with them */
export async function readWindows(
  device: DiskFile,
  promise: SectorPromise,
  words: Map<number, number>,
): Promise<string | undefined> {
  for (const { offset, length } of WINDOWS) {
    if (offset >= device.size) break;
    const content = new Uint32Array(Math.min(length, device.size - offset) / 4);
    const bytes = new Uint8Array(content.buffer);
    await device.pread(bytes, offset);
    const problem = promise.problem(offset, bytes);
    if (problem !== undefined) return problem;
    for (let at = 0; at < content.length; at += SECTOR / 4) {
      words.set((offset + at * 4) / SECTOR, content[at] as number);
    }
  }
  return undefined;
}
