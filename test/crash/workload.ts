/**
 * Random workloads on a recorded VVD file, with the history of what each sector was given and when. What can happen
 * to a disk happens: writes, zeroes, discards, compressed blocks, reuse of freed blocks, resizes, changes of
 * attributes, several sessions, a parent behind it, operations under way at once.
 */
import { stageAttributes } from '../../formats/vvd/attributes.ts';
import { createVvd } from '../../formats/vvd/create.ts';
import { writeHeader } from '../../formats/vvd/header.ts';
import type { VvdLayer } from '../../formats/vvd/layer.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { RecordingDevice } from '../../src/device/recording-device.ts';
import type { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { type HistoryOperation, SECTOR, SectorHistory, ShuffleDevice } from '../../src/testing/index.ts';
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

/** Runs a workload, and returns its log with everything needed to judge a crash at any place in it. */
export async function recordWorkload(seed: number, steps: number): Promise<Recorded> {
  const random = new SeededRandom(seed);
  const shape = randomShape(random);
  const parent = random.oneIn(3) ? await makeParent(random, shape) : undefined;
  const memory = MemoryDevice.create(0, { name: 'disk' });
  const layer = parent && (await openVvd(parent.file, { readOnly: true, gate: closedGate }));
  await createVvd(memory, {
    virtualSize: shape.size,
    options: creationOptions(shape),
    gate: closedGate,
    ...(layer ? { backing: { path: 'parent', format: 'vvd', layer } } : {}),
  });
  const start = memory.fork();
  const manyAtOnce = random.oneIn(3);
  const file = new RecordingDevice(manyAtOnce ? new ShuffleDevice(memory, random.nextU32()) : memory);
  const history = new SectorHistory(parent?.word ?? (() => 0), () => file.events.length);
  const workload = new Workload({ random, shape, file, history, parent: parent?.file }, manyAtOnce ? 6 : 1);
  await workload.run(steps);
  const { sizes, labels } = workload;
  return { shape, start, parent: parent?.file, file, history, sizes, labels };
}

interface WorkloadParts {
  readonly random: SeededRandom;
  readonly shape: DiskShape;
  readonly file: RecordingDevice;
  readonly history: SectorHistory;
  readonly parent: MemoryDevice | undefined;
}

class Workload {
  readonly sizes: Change<number>[];
  readonly labels: Change<string>[] = [{ since: -1, value: '', settled: -1 }];
  readonly #random: SeededRandom;
  readonly #shape: DiskShape;
  readonly #file: RecordingDevice;
  readonly #history: SectorHistory;
  readonly #parent: MemoryDevice | undefined;
  readonly #most: number;
  readonly #resizes: boolean;
  readonly #underWay = new Set<Span & { readonly done: Promise<void> }>();
  readonly #flushes = new Set<Promise<void>>();
  #disk!: DiskImage;

  constructor(parts: WorkloadParts, most: number) {
    this.#random = parts.random;
    this.#shape = parts.shape;
    this.#file = parts.file;
    this.#history = parts.history;
    this.#parent = parts.parent;
    this.#most = most;
    this.#resizes = parts.random.oneIn(2);
    this.sizes = [{ since: -1, value: parts.shape.size, settled: -1 }];
  }

  async run(steps: number): Promise<void> {
    this.#disk = await openDisk(this.#file, this.#parent);
    for (let i = 0; i < steps; i++) await this.#step();
    await this.#quiet();
    if (this.#random.oneIn(2)) await this.#disk.close();
  }

  async #quiet(): Promise<void> {
    await Promise.all([...[...this.#underWay].map((span) => span.done), ...this.#flushes]);
  }

  async #step(): Promise<void> {
    const random = this.#random;
    while (this.#underWay.size >= this.#most)
      await Promise.race([...this.#underWay].map((span) => span.done));
    const kind = random.below(40);
    if (kind < 6) return this.#flush();
    if (kind < 8) return this.#reopen();
    if (kind === 8) return this.#resizes ? this.#resize() : undefined;
    if (kind === 9) return this.#relabel();
    const span = this.#freeSpan();
    if (!span) return;
    if (kind < 14) return this.#zero(span, random.oneIn(3));
    if (kind < 17) return this.#discard(span);
    if (kind < 20 && this.#shape.compression !== 'none') return this.#compress(span);
    const data = new Uint8Array(span.length);
    const operation = this.#history.write(span.offset, data);
    return this.#run(span, operation, async () => this.#disk.pwrite(data, span.offset));
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
    const done = work()
      .then(() => this.#history.settle(operation))
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

  async #flush(): Promise<void> {
    const called = this.#history.flushCalled();
    const done = Promise.resolve(this.#disk.flush())
      .then(() => this.#history.flushed(called))
      .finally(() => this.#flushes.delete(done));
    this.#flushes.add(done);
    if (this.#most === 1) await done;
  }

  /** Closing flushes as well. */
  async #reopen(): Promise<void> {
    await this.#quiet();
    const called = this.#history.flushCalled();
    await this.#disk.close();
    this.#history.flushed(called);
    this.#disk = await openDisk(this.#file, this.#parent);
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
    await this.#disk.resize(size);
    change.settled = this.#file.events.length;
    for (const operation of gone) this.#history.settle(operation);
  }

  async #relabel(): Promise<void> {
    await this.#quiet();
    const value = `label ${this.#random.nextU32()}`;
    const change = { value, since: this.#file.events.length, settled: NEVER };
    this.labels.push(change);
    const { header } = this.#disk.layers[0] as VvdLayer;
    await stageAttributes(this.#file, header, new Map([['label', value]]));
    await writeHeader(this.#file, header);
    change.settled = this.#file.events.length;
  }
}
