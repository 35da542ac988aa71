/**
 * Compare: whether two disks hold the same for a guest.
 *
 * Both maps are walked together. Where both read as zeroes, or both lie at the same place of the same file (two clones
 * of one base), nothing is read. The rest is read in chunks, several under way at once, and judged in order, so that
 * the first difference is the one reported.
 */
import type { BlockDevice } from '../device/block-device.ts';
import { DiskImage, type MapExtent } from '../image/disk-image.ts';
import { EventLoopTurns } from './event-loop-turns.ts';
import { type JobOptions, throwIfCancelled } from './job.ts';
import { ProgressMeter } from './progress.ts';
import { UncachedFiles } from './uncached-files.ts';

export interface CompareOptions extends JobOptions {
  /** Different sizes, and ranges stored in different ways, are differences too. */
  readonly strict?: boolean;
  /** Leave nothing of the disks in the host's cache. Default false. */
  readonly uncached?: boolean;
}

/** What was found first. Offsets are bytes; a difference in content is told to the sector, as qemu-img does. */
export interface CompareResult {
  readonly identical: boolean;
  readonly difference?: 'content' | 'size' | 'status';
  readonly offset?: number;
  /** The disks have different sizes; without `strict`, what is behind the shorter one must be zero. */
  readonly sizesDiffer: boolean;
}

const SECTOR = 512;
/** Bytes compared at once, and how many at a time: what is read is compared before it leaves the processor's cache. */
const CHUNK = 512 * 1024;
const PARALLEL = 2;

/** Compares two disks. They stay open. @throws VimgError what reading throws, `CANCELLED` */
export async function compareDisks(
  first: BlockDevice,
  second: BlockDevice,
  options: CompareOptions = {},
): Promise<CompareResult> {
  const sizesDiffer = first.size !== second.size;
  if (sizesDiffer && options.strict) return { identical: false, difference: 'size', sizesDiffer };
  const meter = new ProgressMeter(options.onProgress);
  meter.phase('comparing', Math.max(first.size, second.size));
  const found = await new Comparison(first, second, options, meter).run();
  meter.phase('done');
  return found === undefined
    ? { identical: true, sizesDiffer }
    : { identical: false, difference: found.difference, offset: found.offset, sizesDiffer };
}

interface Difference {
  readonly difference: 'content' | 'status';
  readonly offset: number;
}

/** A part of both disks, and how it is told whether it differs. */
interface Part {
  readonly offset: number;
  readonly length: number;
  readonly how: 'equal' | 'both' | 'first' | 'second' | 'status';
}

class Comparison {
  readonly #devices: readonly [BlockDevice, BlockDevice];
  readonly #maps: readonly [MapCursor, MapCursor];
  readonly #options: CompareOptions;
  readonly #meter: ProgressMeter;
  readonly #free: [Buffer, Buffer][] = [];
  readonly #queue: Promise<Difference | undefined>[] = [];
  readonly #uncached: readonly UncachedFiles[];

  constructor(first: BlockDevice, second: BlockDevice, options: CompareOptions, meter: ProgressMeter) {
    this.#devices = [first, second];
    this.#maps = [new MapCursor(first), new MapCursor(second)];
    this.#options = options;
    this.#meter = meter;
    this.#uncached = options.uncached ? [new UncachedFiles(first), new UncachedFiles(second)] : [];
  }

  async run(): Promise<Difference | undefined> {
    const end = Math.max(this.#devices[0].size, this.#devices[1].size);
    const turns = new EventLoopTurns();
    try {
      for (let offset = 0; offset < end; ) {
        if (turns.due) await turns.take();
        throwIfCancelled(this.#options.signal);
        const part = await this.#partAt(offset, end);
        offset += part.length;
        if (part.how === 'equal') {
          this.#meter.add(part.length);
          continue;
        }
        const found = this.#queue.length >= PARALLEL ? await this.#oldest() : undefined;
        if (found) return found;
        const judged = this.#judge(part);
        judged.catch(() => undefined); // a failure is thrown when its turn comes, perhaps some ticks from now
        this.#queue.push(judged);
      }
      while (this.#queue.length > 0) {
        const found = await this.#oldest();
        if (found) return found;
      }
      return undefined;
    } finally {
      await Promise.allSettled(this.#queue);
      for (const files of this.#uncached) files.forget();
    }
  }

  #oldest(): Promise<Difference | undefined> {
    return this.#queue.shift() ?? Promise.resolve(undefined);
  }

  /** What is to be done from `offset` on; neighbours of one kind are taken together. */
  async #partAt(offset: number, end: number): Promise<Part> {
    const part = await this.#smallestPart(offset, end);
    let { length } = part;
    while (part.how !== 'status' && offset + length < end && (part.how === 'equal' || length < CHUNK)) {
      const next = await this.#smallestPart(offset + length, end);
      if (next.how !== part.how) break;
      length += next.length;
    }
    return { ...part, length: part.how === 'equal' ? length : Math.min(length, CHUNK) };
  }

  async #smallestPart(offset: number, end: number): Promise<Part> {
    const first = await this.#maps[0].at(offset, end);
    const second = await this.#maps[1].at(offset, end);
    const length = Math.min(first.length, second.length);
    if (this.#options.strict && !sameStatus(first, second)) return { offset, length, how: 'status' };
    if ((first.zero && second.zero) || samePlace(first, second)) return { offset, length, how: 'equal' };
    if (first.zero) return { offset, length, how: 'second' };
    return { offset, length, how: second.zero ? 'first' : 'both' };
  }

  async #judge(part: Part): Promise<Difference | undefined> {
    if (part.how === 'status') return { difference: 'status', offset: part.offset };
    const pair = this.#free.pop() ?? [Buffer.allocUnsafeSlow(CHUNK), Buffer.allocUnsafeSlow(CHUNK)];
    try {
      const [first, second] = [pair[0].subarray(0, part.length), pair[1].subarray(0, part.length)];
      await Promise.all([
        part.how === 'second' ? first.fill(0) : this.#devices[0].pread(first, part.offset),
        part.how === 'first' ? second.fill(0) : this.#devices[1].pread(second, part.offset),
      ]);
      this.#meter.add(part.length);
      for (const files of this.#uncached) files.moved(part.length);
      if (first.equals(second)) return undefined;
      return { difference: 'content', offset: part.offset + firstDifference(first, second) };
    } finally {
      this.#free.push(pair);
    }
  }
}

/** One disk's map, asked at growing offsets; an answer serves until its end. */
class MapCursor {
  readonly #device: BlockDevice;
  #extent: MapExtent | undefined;

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  /** The extent from `offset` on; zeroes behind the end of the disk. */
  async at(offset: number, end: number): Promise<MapExtent> {
    const held = this.#extent;
    if (held === undefined || offset < held.offset || offset >= held.offset + held.length) {
      this.#extent = await this.#ask(offset, end);
      return this.#extent;
    }
    const skip = offset - held.offset;
    return {
      ...held,
      offset,
      length: held.length - skip,
      ...(held.fileOffset === undefined ? {} : { fileOffset: held.fileOffset + skip }),
    };
  }

  async #ask(offset: number, end: number): Promise<MapExtent> {
    const device = this.#device;
    if (offset >= device.size) {
      return {
        offset,
        length: end - offset,
        depth: 0,
        present: false,
        zero: true,
        data: false,
        compressed: false,
      };
    }
    if (device instanceof DiskImage) return device.mapAt(offset, device.size - offset);
    const extent = await device.status(offset, device.size - offset);
    return { ...extent, depth: 0, present: extent.allocated, data: !extent.zero, compressed: false };
  }
}

function sameStatus(first: MapExtent, second: MapExtent): boolean {
  return (
    first.zero === second.zero &&
    first.data === second.data &&
    first.present === second.present &&
    first.compressed === second.compressed
  );
}

function samePlace(first: MapExtent, second: MapExtent): boolean {
  return (
    first.fileOffset !== undefined &&
    first.fileOffset === second.fileOffset &&
    first.fileName !== undefined &&
    first.fileName === second.fileName
  );
}

/** Start of the first sector that differs. */
function firstDifference(first: Buffer, second: Buffer): number {
  let from = 0;
  for (let length = first.length; length > SECTOR; ) {
    const half = Math.ceil(length / 2 / SECTOR) * SECTOR;
    if (first.compare(second, from, from + half, from, from + half) === 0) {
      from += half;
      length -= half;
    } else {
      length = half;
    }
  }
  return from;
}
