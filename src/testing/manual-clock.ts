/** A clock that stands still until a test moves it: whoever sleeps wakes when the time is set past that. */
import type { Clock } from '../base/clock.ts';

interface Sleeper {
  readonly wakeAtMs: number;
  readonly wake: () => void;
}

export class ManualClock implements Clock {
  #nowMs = 0;
  #sleepers: Sleeper[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => this.#sleepers.push({ wakeAtMs: this.#nowMs + ms, wake }));
  }

  /** Moves the time on, waking sleepers in order, and lets what they do run before the next one wakes. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settled(); // who is about to sleep does so from now on
    for (let next = this.#next(endMs); next !== undefined; next = this.#next(endMs)) {
      this.#nowMs = next.wakeAtMs;
      this.#sleepers = this.#sleepers.filter((sleeper) => sleeper !== next);
      next.wake();
      await settled();
    }
    this.#nowMs = endMs;
  }

  #next(endMs: number): Sleeper | undefined {
    const due = this.#sleepers.filter((sleeper) => sleeper.wakeAtMs <= endMs);
    return due.sort((a, b) => a.wakeAtMs - b.wakeAtMs)[0];
  }
}

/** Everything that follows in promises alone has run. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
