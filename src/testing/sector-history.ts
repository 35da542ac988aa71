/**
 * What a disk may read after a crash: for each sector, what it held at the last flush that was acknowledged, or
 * anything that was written to it since. Nothing else.
 *
 * Content is made of words: a sector filled with one 32-bit word that no other sector and no other write has. So one
 * look tells which write a sector shows, whether it is torn, and whether it is another sector's. A sector of zeroes
 * has the word 0.
 *
 * Two kinds of time: the position in the log of the device (what had reached it), and a clock that ticks when an
 * operation starts and ends (what completed before a flush was called).
 */
export const SECTOR = 512;
const WORDS = SECTOR / 4;

/** Words of one write lie below this, and sectors that many apart share one. A prime, as blocks are powers of two. */
const SECTORS = 32749;

/** One value that a sector was given, and when. */
interface Value {
  readonly word: number;
  /** Log position when the operation that wrote it started. */
  readonly since: number;
  /** Tick at which that operation succeeded; infinite while it has not. */
  settled: number;
}

/** A write, zeroing or discard under way. */
export interface HistoryOperation {
  readonly values: readonly Value[];
}

interface AcknowledgedFlush {
  /** Tick at which it was called: what had settled before is covered. */
  readonly called: number;
  /** Log position when it was acknowledged. */
  readonly since: number;
}

export class SectorHistory {
  readonly #sectors = new Map<number, Value[]>();
  readonly #flushes: AcknowledgedFlush[] = [];
  readonly #initial: (sector: number) => number;
  readonly #position: () => number;
  #clock = 0;
  #version: number;

  /**
   * @param initial word that a sector holds at first
   * @param position length of the device's log now
   * @param firstVersion where to start counting writes: histories of several layers must not share words
   */
  constructor(initial: (sector: number) => number, position: () => number, firstVersion = 0) {
    this.#initial = initial;
    this.#position = position;
    this.#version = firstVersion;
  }

  /** Sectors that were ever given a value. */
  get touched(): Iterable<number> {
    return this.#sectors.keys();
  }

  /** Starts a write: fills `data` with words of its own, sector by sector. */
  write(offset: number, data: Uint8Array): HistoryOperation {
    const version = ++this.#version;
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const values: Value[] = [];
    for (let at = 0; at < data.length; at += SECTOR) {
      const sector = (offset + at) / SECTOR;
      const word = wordOf(version, sector);
      for (let i = 0; i < WORDS; i++) view.setUint32(at + i * 4, word, true);
      values.push(this.#give(sector, word));
    }
    return { values };
  }

  /** Starts what makes a range read as zeroes. */
  zero(offset: number, length: number): HistoryOperation {
    const values: Value[] = [];
    for (let at = offset; at < offset + length; at += SECTOR) values.push(this.#give(at / SECTOR, 0));
    return { values };
  }

  #give(sector: number, word: number): Value {
    const value: Value = { word, since: this.#position(), settled: Number.POSITIVE_INFINITY };
    const values = this.#sectors.get(sector);
    if (values) values.push(value);
    else {
      const first: Value = { word: this.#initial(sector), since: -1, settled: -1 };
      this.#sectors.set(sector, [first, value]);
    }
    return value;
  }

  /** The operation succeeded. One that failed is never settled: its values stay possible until replaced. */
  settle(operation: HistoryOperation): void {
    const now = ++this.#clock;
    for (const value of operation.values) value.settled = now;
  }

  /** The session ended without a flush that covers all it wrote: any of that may be there or not. */
  abandon(): void {
    const covered = this.#flushes.reduce((latest, flush) => Math.max(latest, flush.called), -1);
    for (const values of this.#sectors.values()) {
      for (const value of values) if (value.settled >= covered) value.settled = Number.POSITIVE_INFINITY;
    }
  }

  /** A flush is called. Pass what this returns to `flushed` when it was acknowledged. */
  flushCalled(): number {
    return ++this.#clock;
  }

  flushed(called: number): void {
    this.#flushes.push({ called, since: this.#position() });
  }

  /** What may be read after a crash at `position` of the log. Default: now. */
  promiseAt(position: number = this.#position()): SectorPromise {
    let covered = -1;
    for (const flush of this.#flushes) {
      if (flush.since <= position) covered = Math.max(covered, flush.called);
    }
    return this.#promise(covered, position);
  }

  /** What may be read now, from the disk as it is open: what succeeded last, or what failed or is under way since. */
  present(): SectorPromise {
    return this.#promise(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  }

  /** Everything that settled before tick `covered` is certain. */
  #promise(covered: number, position: number): SectorPromise {
    const allowed = new Map<number, readonly number[]>();
    for (const [sector, values] of this.#sectors) {
      let first = 0;
      for (const [i, value] of values.entries()) if (value.settled < covered) first = i;
      const words: number[] = [];
      for (let i = first; i < values.length; i++) {
        const value = values[i] as Value;
        if (value.since <= position) words.push(value.word);
      }
      allowed.set(sector, words);
    }
    return new SectorPromise(allowed, this.#initial);
  }
}

/** The words that sectors may hold at one moment. */
export class SectorPromise {
  readonly #allowed: ReadonlyMap<number, readonly number[]>;
  readonly #initial: (sector: number) => number;

  constructor(allowed: ReadonlyMap<number, readonly number[]>, initial: (sector: number) => number) {
    this.#allowed = allowed;
    this.#initial = initial;
  }

  /** What is wrong with what was read at `offset`, if anything. */
  problem(offset: number, data: Uint8Array): string | undefined {
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
    for (let at = 0; at < words.length; at += WORDS) {
      const sector = offset / SECTOR + at / WORDS;
      const word = words[at] as number;
      for (let i = 1; i < WORDS; i++) {
        if (words[at + i] !== word) {
          return `sector ${sector} is torn: ${describe(word)}, then ${describe(words[at + i] as number)}`;
        }
      }
      const allowed = this.#allowed.get(sector);
      if (allowed ? allowed.includes(word) : word === this.#initial(sector)) continue;
      const expected = (allowed ?? [this.#initial(sector)]).map(describe).join(', ');
      return `sector ${sector} reads ${describe(word)}; allowed: ${expected}`;
    }
    return undefined;
  }
}

/** One word for each write of each sector; never 0. */
function wordOf(version: number, sector: number): number {
  return (version * SECTORS + (sector % SECTORS)) >>> 0;
}

function describe(word: number): string {
  if (word === 0) return 'zero';
  return `write ${Math.floor(word / SECTORS)} of sector ${word % SECTORS}`;
}
