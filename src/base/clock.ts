/** Time: the machine's, or one that a test moves by hand. */
import { setTimeout as sleepOf } from 'node:timers/promises';

export interface Clock {
  /** Milliseconds from some fixed moment; never goes back. */
  nowMs(): number;
  /** Resolves after `ms`. */
  sleep(ms: number): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  async sleep(ms) {
    await sleepOf(ms);
  },
};
