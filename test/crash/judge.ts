/**
 * Judging one crash state: the disk opens by itself, for reading and for writing, and reads what the promise allows;
 * then it is written on, closed, and everything is where it should be. A second crash may come at any time.
 */
import { ok } from 'node:assert/strict';
import { checkVvd } from '../../formats/vvd/check.ts';
import type { VvdLayer } from '../../formats/vvd/layer.ts';
import type { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { RecordingDevice } from '../../src/device/recording-device.ts';
import type { DiskImage } from '../../src/image/disk-image.ts';
import { CrashStates, SECTOR, SectorHistory, type SectorPromise } from '../../src/testing/index.ts';
import { fileContent } from './disk-place.ts';
import { type Change, openDisk, possible, type Recorded, type Span } from './recorded-disk.ts';
import { walkVvd } from './vvd-walk.ts';

/** Writes after a crash are counted from here. */
const LATER_VERSIONS = 50_000;

const CLOSED = 'the closed file';

/** What may be found on a medium. */
interface Expectation {
  readonly promise: SectorPromise;
  readonly sizes: readonly number[];
  readonly labels: readonly string[];
}

export interface JudgeCounts {
  states: number;
  /** Crashes during or after the recovery from a crash. */
  nested: number;
  leakedMost: number;
}

export class Judge {
  readonly counts: JudgeCounts = { states: 0, nested: 0, leakedMost: 0 };
  readonly #recorded: Recorded;
  readonly #random: SeededRandom;
  readonly #buffers: readonly Uint32Array[];
  /** What the disk held, and which content that was, before the first event. */
  #first: (Found & { readonly contentId: string }) | undefined;

  constructor(recorded: Recorded, random: SeededRandom) {
    this.#recorded = recorded;
    this.#random = random;
    this.#buffers = recorded.shape.windows.map(({ length }) => new Uint32Array(length / 4));
  }

  /** What may be found after a crash at a position of the log. */
  expectationAt(position: number): Expectation {
    const { history, sizes, labels } = this.#recorded;
    return {
      promise: history.promiseAt(position),
      sizes: possible(sizes, position),
      labels: possible(labels, position),
    };
  }

  /** Looks at the disk as it was before the first event; the first to be called. */
  async begin(): Promise<void> {
    await this.#look(this.#recorded.start.fork({ readOnly: true }), this.expectationAt(-1));
  }

  /** @throws AssertionError with what is wrong */
  async judge(medium: MemoryDevice, expected: Expectation, depth = 0): Promise<void> {
    this.counts.states++;
    if (depth > 0) this.counts.nested++;
    const seen = await this.#look(medium.fork({ readOnly: true }), expected);
    if (this.#random.oneIn(20)) await this.#check(medium, 'after the crash');
    const start = medium.fork();
    const file = new RecordingDevice(medium);
    const disk = await this.#openOn(file);
    const opened = file.events.length;
    const found = await this.#read(disk, expected, 'opened for writing');
    ok(sameWords(found.words, seen.words), 'read-only and read-write see the same');
    const later = await this.#writeOn(disk, file, found);
    await this.#finish(medium, later, file.events.length > opened);
    if (depth < 2 && this.#random.oneIn(6)) {
      await this.#crashAgain(start, file, opened, expected, later, depth + 1);
    }
  }

  async #openOn(medium: BlockDevice, readOnly = false): Promise<DiskImage> {
    const { place, parent } = this.#recorded;
    return openDisk(await place.open(medium), parent, readOnly);
  }

  /** Opens read-only, which must change nothing, and reads. */
  async #look(medium: BlockDevice, expected: Expectation): Promise<Found> {
    const disk = await this.#openOn(medium, true);
    const found = await this.#read(disk, expected, 'opened read-only');
    await disk.close();
    return found;
  }

  async #read(disk: DiskImage, expected: Expectation, how: string): Promise<Found> {
    const layer = disk.layers[0] as VvdLayer;
    const label = String(layer.attributes.get('label') ?? '');
    ok(expected.sizes.includes(disk.size), `${how}: size ${disk.size}, allowed ${expected.sizes}`);
    ok(expected.labels.includes(label), `${how}: label '${label}', allowed ${expected.labels}`);
    const words: number[] = [];
    for (const [i, window] of this.#recorded.shape.windows.entries()) {
      const length = Math.max(0, Math.min(window.length, disk.size - window.offset));
      const content = (this.#buffers[i] as Uint32Array).fill(0, length / 4);
      const buffer = new Uint8Array(content.buffer, 0, length);
      if (length > 0) await disk.pread(buffer, window.offset);
      const problem = expected.promise.problem(window.offset, buffer);
      ok(problem === undefined, `${how}: ${problem}`);
      for (let at = 0; at < content.length; at += SECTOR / 4) words.push(content[at] as number);
    }
    const found = { words, size: disk.size, label };
    const { contentId } = layer.header;
    this.#first ??= { ...found, contentId };
    const same = found.size === this.#first.size && sameWords(words, this.#first.words);
    ok(same || contentId !== this.#first.contentId, `${how}: other content under the content ID that it had`);
    return found;
  }

  /** A few more operations, some of them flushed, then a close. */
  async #writeOn(disk: DiskImage, file: RecordingDevice, found: Found): Promise<Later> {
    const random = this.#random;
    const history = new SectorHistory(this.#wordOf(found.words), () => file.events.length, LATER_VERSIONS);
    const sizes: Change<number>[] = [{ value: found.size, since: -1, settled: -1 }];
    const later = { history, sizes, label: found.label };
    if (random.oneIn(3)) await this.#resizeOn(disk, file, later);
    for (let i = 0; i < 4; i++) {
      const span = this.#span(disk.size);
      if (span) await this.#changeOn(disk, span, history);
      if (random.oneIn(3)) {
        const called = history.flushCalled();
        await disk.flush();
        history.flushed(called);
      }
    }
    const called = history.flushCalled();
    await disk.close();
    history.flushed(called);
    return later;
  }

  #span(size: number): Span | undefined {
    const random = this.#random;
    const window = random.pick(this.#recorded.shape.windows);
    const end = Math.min(size, window.offset + window.length);
    const offset = window.offset + random.below(window.length / SECTOR) * SECTOR;
    const length = Math.min((1 + random.below(random.pick([4, 40, 300]))) * SECTOR, end - offset);
    return length > 0 ? { offset, length } : undefined;
  }

  async #changeOn(disk: DiskImage, { offset, length }: Span, history: SectorHistory): Promise<void> {
    const data = new Uint8Array(length);
    const isZero = this.#random.oneIn(4);
    const operation = isZero ? history.zero(offset, length) : history.write(offset, data);
    await (isZero ? disk.writeZeroes(offset, length) : disk.pwrite(data, offset));
    history.settle(operation);
  }

  /** What a size that never came to be would have cut off must not come back when the disk grows. */
  async #resizeOn(disk: DiskImage, file: RecordingDevice, later: Later): Promise<void> {
    const { sizeMax, windows } = this.#recorded.shape;
    const random = this.#random;
    const value = random.oneIn(4) ? (1 + random.below(sizeMax / SECTOR)) * SECTOR : sizeMax;
    const kept = Math.min(disk.size, value);
    const gone = windows.map(({ offset, length }) => {
      const from = Math.max(offset, kept);
      return later.history.zero(from, Math.max(0, offset + length - from));
    });
    const change = { value, since: file.events.length, settled: Number.POSITIVE_INFINITY };
    later.sizes.push(change);
    await disk.resize(value);
    change.settled = file.events.length;
    for (const operation of gone) later.history.settle(operation);
  }

  /** Word of each sector in what was read; sectors outside the windows are not asked about. */
  #wordOf(words: readonly number[]): (sector: number) => number {
    const { windows } = this.#recorded.shape;
    return (sector) => {
      let before = 0;
      for (const { offset, length } of windows) {
        const within = sector - offset / SECTOR;
        if (within >= 0 && within < length / SECTOR) return words[before + within] as number;
        before += length / SECTOR;
      }
      return 0;
    };
  }

  /** The closed file: reads as written, and each place has one owner. */
  async #finish(medium: MemoryDevice, later: Later, written: boolean): Promise<void> {
    await this.#look(medium.fork({ readOnly: true }), expectationOf(later));
    const { problems, leaked } = walkVvd(await fileContent(medium, this.#recorded.place));
    ok(problems.length === 0, `the closed file: ${problems.slice(0, 5).join('; ')}`);
    this.counts.leakedMost = Math.max(this.counts.leakedMost, leaked);
    if (this.#random.oneIn(20))
      await this.#check(medium, written ? CLOSED : 'the file that was not written on');
  }

  /** The check of the format agrees: what a crash leaves is no corruption. */
  async #check(medium: MemoryDevice, when: string): Promise<void> {
    const { findings } = await checkVvd(await fileContent(medium, this.#recorded.place));
    // a crash may tear one header copy; the other is what counts then, and the next header write mends it
    const corruptions = findings.filter(
      ({ kind, severity }) => severity === 'corruption' && (kind !== 'header-copy' || when === CLOSED),
    );
    ok(corruptions.length === 0, `${when}, check says: ${corruptions[0]?.message}`);
  }

  /** Another crash while the first one was being recovered from, or while the disk was written on. */
  async #crashAgain(
    start: MemoryDevice,
    file: RecordingDevice,
    opened: number,
    expected: Expectation,
    later: Later,
    depth: number,
  ): Promise<void> {
    const { events } = file;
    const states = new CrashStates(start, events);
    const inOpen = this.#random.below(opened + 1);
    await this.judge(states.at(inOpen, this.#random), expected, depth);
    const after = opened + this.#random.below(events.length - opened + 1);
    const medium = states.at(after, this.#random);
    await this.judge(medium, expectationOf(later, after), depth);
  }
}

interface Found {
  /** First word of each sector in the windows; the others are the same, or it would be torn. */
  readonly words: readonly number[];
  readonly size: number;
  readonly label: string;
}

interface Later {
  readonly history: SectorHistory;
  readonly sizes: Change<number>[];
  readonly label: string;
}

function expectationOf(later: Later, position = Number.MAX_SAFE_INTEGER): Expectation {
  const { history, sizes, label } = later;
  return { promise: history.promiseAt(position), sizes: possible(sizes, position), labels: [label] };
}

function sameWords(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((word, i) => word === other[i]);
}
