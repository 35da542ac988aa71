/**
 * Random workloads on a recorded VVD file, with the history of what each sector was given and when. What can happen
 * to a disk happens: writes, zeroes, discards, compressed blocks, reuse of freed blocks, resizes, changes of
 * attributes, several sessions, a parent behind it, operations under way at once.
 */
import { ok } from 'node:assert/strict';
import { stageAttributes } from '../../formats/vvd/attributes.ts';
import { createVvd } from '../../formats/vvd/create.ts';
import { writeHeader } from '../../formats/vvd/header.ts';
import type { VvdLayer } from '../../formats/vvd/layer.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import { type ErrorCode, VimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { RecordingDevice } from '../../src/device/recording-device.ts';
import type { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { type HistoryOperation, SECTOR, SectorHistory, ShuffleDevice } from '../../src/testing/index.ts';
import { type DiskPlace, ON_THE_MEDIUM } from './disk-place.ts';
import {
  type Change,
  creationOptions,
  type DiskShape,
  makeParent,
  openDisk,
  type Recorded,
  randomShape,
  type Span,
} from './recorded-disk.ts';

const SUB_BLOCKS = 32;
const NEVER = Number.POSITIVE_INFINITY;

export interface WorkloadOptions {
  readonly steps: number;
  /** Where the disk's file is. Default: it is what is recorded. */
  readonly place?: DiskPlace;
  /** Wraps the medium under the recording: a device that fails. */
  readonly around?: (file: BlockDevice) => BlockDevice;
  /** Operations may fail with these codes; what they wrote may be there or not. Default: none may fail. */
  readonly mayFail?: readonly ErrorCode[];
}

/** A recorded workload on a device that may have failed. */
export interface RecordedFaults extends Recorded {
  /** The medium as it is now. */
  readonly memory: MemoryDevice;
  readonly failures: number;
}

/** Runs a workload, and returns its log with everything needed to judge a crash at any place in it. */
export async function recordWorkload(seed: number, options: WorkloadOptions): Promise<RecordedFaults> {
  const random = new SeededRandom(seed);
  const shape = randomShape(random);
  const parent = random.oneIn(3) ? await makeParent(random, shape) : undefined;
  const place = options.place ?? ON_THE_MEDIUM;
  const memory = await place.blank();
  const layer = parent && (await openVvd(parent.file, { readOnly: true, gate: closedGate }));
  const empty = await place.open(memory);
  await createVvd(empty, {
    virtualSize: shape.size,
    options: creationOptions(shape),
    gate: closedGate,
    ...(layer ? { backing: { path: 'parent', format: 'vvd', layer } } : {}),
  });
  await empty.close();
  const start = memory.fork();
  const manyAtOnce = random.oneIn(3);
  const uneven = manyAtOnce ? new ShuffleDevice(memory, random.nextU32()) : memory;
  const file = new RecordingDevice(options.around?.(uneven) ?? uneven);
  const history = new SectorHistory(parent?.word ?? (() => 0), () => file.events.length);
  const parts = { random, shape, place, file, history, parent: parent?.file, mayFail: options.mayFail ?? [] };
  const workload = new Workload(parts, manyAtOnce ? 6 : 1);
  await workload.run(options.steps);
  const { sizes, labels, failures } = workload;
  return { shape, place, start, parent: parent?.file, file, history, sizes, labels, memory, failures };
}

interface WorkloadParts {
  readonly random: SeededRandom;
  readonly shape: DiskShape;
  readonly place: DiskPlace;
  readonly file: RecordingDevice;
  readonly history: SectorHistory;
  readonly parent: MemoryDevice | undefined;
  readonly mayFail: readonly ErrorCode[];
}

class Workload {
  failures = 0;
  readonly sizes: Change<number>[];
  readonly labels: Change<string>[] = [{ since: -1, value: '', settled: -1 }];
  readonly #random: SeededRandom;
  readonly #shape: DiskShape;
  readonly #place: DiskPlace;
  readonly #file: RecordingDevice;
  readonly #history: SectorHistory;
  readonly #parent: MemoryDevice | undefined;
  readonly #mayFail: readonly ErrorCode[];
  readonly #most: number;
  readonly #resizes: boolean;
  readonly #underWay = new Set<Span & { readonly done: Promise<void> }>();
  readonly #flushes = new Set<Promise<void>>();
  #flushFailed = false;
  #labelFailed = false;
  #disk!: DiskImage;
  /** The disk's file, as it is open now. */
  #content!: BlockDevice;

  constructor(parts: WorkloadParts, most: number) {
    this.#random = parts.random;
    this.#shape = parts.shape;
    this.#place = parts.place;
    this.#file = parts.file;
    this.#history = parts.history;
    this.#parent = parts.parent;
    this.#mayFail = parts.mayFail;
    this.#most = most;
    this.#resizes = parts.random.oneIn(2);
    this.sizes = [{ since: -1, value: parts.shape.size, settled: -1 }];
  }

  async run(steps: number): Promise<void> {
    if (!(await this.#open())) return;
    for (let i = 0; i < steps; i++) if (!(await this.#step())) return;
    await this.#quiet();
    await this.#verify();
    if (this.#random.oneIn(2)) await this.#close();
  }

  async #open(): Promise<boolean> {
    this.#flushFailed = false;
    this.#labelFailed = false;
    return this.#attempt(async () => {
      this.#content = await this.#place.open(this.#file);
      this.#disk = await openDisk(this.#content, this.#parent);
    });
  }

  /** @returns whether the work succeeded. Only failures that the device was told to make are let pass. */
  async #attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof VimgError && this.#mayFail.includes(error.code))) throw error;
      this.failures++;
      return false;
    }
  }

  /** What is read now, whatever failed. */
  async #verify(): Promise<void> {
    const present = this.#history.present();
    for (const { offset, length } of this.#shape.windows) {
      const buffer = new Uint8Array(Math.max(0, Math.min(length, this.#disk.size - offset)));
      if (buffer.length === 0) continue;
      if (!(await this.#attempt(async () => this.#disk.pread(buffer, offset)))) continue;
      const problem = present.problem(offset, buffer);
      ok(problem === undefined, `the open disk: ${problem}`);
    }
  }

  async #quiet(): Promise<void> {
    await Promise.all([...[...this.#underWay].map((span) => span.done), ...this.#flushes]);
  }

  /** @returns whether the disk is still open */
  async #step(): Promise<boolean> {
    const random = this.#random;
    while (this.#underWay.size >= this.#most)
      await Promise.race([...this.#underWay].map((span) => span.done));
    const kind = random.below(40);
    if (kind < 2) return this.#reopen();
    if (kind < 8) await this.#flush();
    else if (kind === 8 && this.#resizes) await this.#resize();
    else if (kind === 9) await this.#relabel();
    const span = this.#freeSpan();
    if (!span || kind < 10) return true;
    if (kind < 14) await this.#zero(span, random.oneIn(3));
    else if (kind < 17) await this.#discard(span);
    else if (kind < 20 && this.#shape.compression !== 'none') await this.#compress(span);
    else await this.#write(span);
    return true;
  }

  async #write(span: Span): Promise<void> {
    const data = new Uint8Array(span.length);
    const operation = this.#history.write(span.offset, data);
    await this.#run(span, operation, async () => this.#disk.pwrite(data, span.offset));
  }

  /** Whole sectors in one of the windows, that nothing under way touches. */
  #freeSpan(): Span | undefined {
    const random = this.#random;
    const window = random.pick(this.#shape.windows);
    const offset = window.offset + random.below(window.length / SECTOR) * SECTOR;
    const end = Math.min(this.#disk.size, window.offset + window.length);
    const most = random.pick([1, 8, 8, 40, 200, 400]);
    const length = Math.min((1 + random.below(most)) * SECTOR, end - offset);
    return length > 0 && this.#isFree(offset, length) ? { offset, length } : undefined;
  }

  #isFree(offset: number, length: number): boolean {
    for (const held of this.#underWay) {
      if (held.offset < offset + length && offset < held.offset + held.length) return false;
    }
    return true;
  }

  async #run(span: Span, operation: HistoryOperation, work: () => Promise<void>): Promise<void> {
    const done = this.#attempt(work)
      .then((succeeded) => {
        if (succeeded) this.#history.settle(operation);
      })
      .finally(() => this.#underWay.delete(held));
    const held = { ...span, done };
    this.#underWay.add(held);
    if (this.#most === 1) await done;
  }

  async #zero(span: Span, keepAllocated: boolean): Promise<void> {
    const { offset, length } = span;
    const operation = this.#history.zero(offset, length);
    await this.#run(span, operation, async () => this.#disk.writeZeroes(offset, length, { keepAllocated }));
  }

  /** Whole units in the range are zeroed, the rest is left. */
  async #discard(span: Span): Promise<void> {
    const { offset, length } = span;
    const unit = this.#shape.blockSize / SUB_BLOCKS;
    const end = offset + length;
    const first = Math.ceil(offset / unit) * unit;
    const last = end === this.#disk.size ? end : Math.floor(end / unit) * unit;
    const operation = this.#history.zero(first, Math.max(0, last - first));
    await this.#run(span, operation, async () => this.#disk.discard(offset, length));
  }

  async #compress(span: Span): Promise<void> {
    const unit = this.#shape.blockSize;
    const offset = Math.floor(span.offset / unit) * unit;
    const data = new Uint8Array(Math.min(unit, this.#disk.size - offset));
    if (!this.#isFree(offset, data.length)) return;
    const operation = this.#history.write(offset, data);
    const work = () => this.#disk.writeCompressed(offset, data);
    await this.#run({ offset, length: data.length }, operation, work);
  }

  /** A flush that failed is never followed by one that succeeds. */
  async #flush(): Promise<void> {
    const called = this.#history.flushCalled();
    const hadFailed = this.#flushFailed;
    const done = this.#attempt(async () => this.#disk.flush())
      .then((succeeded) => this.#flushEnded(called, succeeded, hadFailed))
      .finally(() => this.#flushes.delete(done));
    this.#flushes.add(done);
    if (this.#most === 1) await done;
  }

  #flushEnded(called: number, succeeded: boolean, hadFailed: boolean): void {
    ok(!(succeeded && hadFailed), 'a failed flush is not followed by one that succeeds');
    if (succeeded) this.#history.flushed(called);
    else this.#flushFailed = true;
  }

  async #reopen(): Promise<boolean> {
    await this.#quiet();
    await this.#verify();
    await this.#close();
    return this.#open();
  }

  /** Closing flushes as well. */
  async #close(): Promise<void> {
    const called = this.#history.flushCalled();
    const hadFailed = this.#flushFailed;
    const succeeded = await this.#attempt(async () => this.#disk.close());
    this.#flushEnded(called, succeeded, hadFailed);
    if (!succeeded) this.#history.abandon();
  }

  /** Sectors that are cut off or added read as zeroes when they are seen again. */
  async #resize(): Promise<void> {
    await this.#quiet();
    const random = this.#random;
    const { sizeMax, windows } = this.#shape;
    const size = random.oneIn(2) ? sizeMax : (1 + random.below(sizeMax / SECTOR)) * SECTOR;
    const kept = Math.min(this.#disk.size, size);
    const gone = windows.map(({ offset, length }) => {
      const from = Math.max(offset, kept);
      return this.#history.zero(from, Math.max(0, offset + length - from));
    });
    const change = { value: size, since: this.#file.events.length, settled: NEVER };
    this.sizes.push(change);
    if (!(await this.#attempt(async () => this.#disk.resize(size)))) return;
    change.settled = this.#file.events.length;
    for (const operation of gone) this.#history.settle(operation);
  }

  /** Whoever fails to change attributes opens the file again before another attempt. */
  async #relabel(): Promise<void> {
    if (this.#labelFailed) return;
    await this.#quiet();
    const value = `label ${this.#random.nextU32()}`;
    const change = { value, since: this.#file.events.length, settled: NEVER };
    this.labels.push(change);
    const { header } = this.#disk.layers[0] as VvdLayer;
    const succeeded = await this.#attempt(async () => {
      await stageAttributes(this.#content, header, new Map([['label', value]]));
      await writeHeader(this.#content, header);
    });
    if (succeeded) change.settled = this.#file.events.length;
    else this.#labelFailed = true;
  }
}
