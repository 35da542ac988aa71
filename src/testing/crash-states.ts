/**
 * Crash states from the log of a recording device: what the medium may hold after a power cut. Every change that a
 * completed flush covers is there; of the others each sector of each one may be there or not, in any combination,
 * which covers every order in which a cache may have written them. Discarded sectors read as before or as zeroes.
 */
import type { SeededRandom } from '../base/random.ts';
import type { MemoryDevice } from '../device/memory-device.ts';
import { applyChange, type RecordedEvent } from '../device/recording-device.ts';

const SECTOR = 512;

export class CrashStates {
  readonly #events: readonly RecordedEvent[];
  readonly #device: number;
  /** The medium with every change before `#done`: all of them durable at any later moment. */
  readonly #base: MemoryDevice;
  #done = 0;

  /**
   * @param start the medium before the first event; it is not changed
   * @param device which device's medium it is, when several wrote the log: ask for the same position of each
   */
  constructor(start: MemoryDevice, events: readonly RecordedEvent[], device = 0) {
    this.#base = start.fork();
    this.#events = events;
    this.#device = device;
  }

  /**
   * A medium as it may be after a crash when `position` events had been logged. Positions must not go down from one
   * call to the next.
   */
  at(position: number, random: SeededRandom): MemoryDevice {
    const events = this.#events;
    while (this.#done < position && this.#isSettled(events[this.#done] as RecordedEvent, position)) {
      const event = events[this.#done] as RecordedEvent;
      if (event.device === this.#device) apply(event, this.#base, random);
      this.#done++;
    }
    const medium = this.#base.fork();
    // what a device's cache holds back differs from cut to cut: nearly nothing, nearly all, or any mixture
    const lost = random.pick([0.02, 0.3, 0.5, 0.7, 0.98]);
    for (let i = this.#done; i < position; i++) {
      const event = events[i] as RecordedEvent;
      if (event.device !== this.#device) continue;
      if (isDurable(event, position)) apply(event, medium, random);
      else if (random.below(1000) / 1000 >= lost) applyPart(event, medium, random);
    }
    return medium;
  }

  #isSettled(event: RecordedEvent, position: number): boolean {
    return event.device !== this.#device || isDurable(event, position);
  }
}

function isDurable(event: RecordedEvent, position: number): boolean {
  return event.kind === 'flush' || (event.durableAt !== undefined && event.durableAt < position);
}

function apply(event: RecordedEvent, medium: MemoryDevice, random: SeededRandom): void {
  if (event.kind === 'flush') return;
  if (event.kind === 'discard') discardSome(event.offset, event.length, medium, random);
  else void applyChange(event, medium);
}

/** A change that no flush covers and that got through, wholly or in part. */
function applyPart(event: RecordedEvent, medium: MemoryDevice, random: SeededRandom): void {
  switch (event.kind) {
    case 'write':
      eachPart(event.offset, event.bytes.length, random, (offset, length) => {
        medium.pwrite(event.bytes.subarray(offset - event.offset, offset - event.offset + length), offset);
      });
      break;
    case 'zero':
      eachPart(event.offset, event.length, random, (offset, length) => medium.writeZeroes(offset, length));
      break;
    default:
      apply(event, medium, random);
  }
}

/** The whole range; or the sectors in front of a tear, or behind it; or any of them. */
function eachPart(
  offset: number,
  length: number,
  random: SeededRandom,
  visit: (offset: number, length: number) => void,
): void {
  const first = Math.floor(offset / SECTOR);
  const count = Math.ceil((offset + length) / SECTOR) - first;
  const cut = random.below(count + 1);
  const mode = random.below(6);
  const kept = (i: number): boolean => {
    if (mode <= 2) return true;
    if (mode === 3) return i < cut;
    return mode === 4 ? i >= cut : random.oneIn(2);
  };
  for (let i = 0; i < count; ) {
    if (!kept(i)) {
      i++;
      continue;
    }
    let end = i + 1;
    while (end < count && kept(end)) end++;
    const from = Math.max(offset, (first + i) * SECTOR);
    visit(from, Math.min(offset + length, (first + end) * SECTOR) - from);
    i = end + 1;
  }
}

function discardSome(offset: number, length: number, medium: MemoryDevice, random: SeededRandom): void {
  if (random.oneIn(3)) return;
  const end = Math.min(offset + length, medium.size);
  if (end > offset) eachPart(offset, end - offset, random, (at, part) => medium.writeZeroes(at, part));
}
