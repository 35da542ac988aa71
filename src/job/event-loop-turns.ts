/**
 * Turns for the event loop during work that completes in the same tick: without them no timer runs, no signal is
 * seen and no progress shows until the work is done.
 */
import { setImmediate } from 'node:timers/promises';

/** Milliseconds of work between two turns: short for a person, long beside what a turn costs. */
const INTERVAL_MS = 20;

export class EventLoopTurns {
  #lastMs = performance.now();

  /** Whether it is time to await {@link take}. */
  get due(): boolean {
    return performance.now() - this.#lastMs >= INTERVAL_MS;
  }

  /** Lets everything that waits have its turn. */
  async take(): Promise<void> {
    await setImmediate();
    this.#lastMs = performance.now();
  }
}
