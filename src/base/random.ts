/** Randomness: from the system for identities, from a seed for tests and simulations. */
import { randomBytes } from 'node:crypto';

/** A source of random bytes. Tests pass a seeded one so that the bytes of an image can be reproduced. */
export type RandomBytes = (length: number) => Uint8Array;

/** Random bytes from the operating system. */
export const systemRandom: RandomBytes = (length) => randomBytes(length);

/** A small, fast, seeded generator (mulberry32). Not for secrets. */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to 2^32 − 1. */
  nextU32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** A whole number from 0 to `bound` − 1; `bound` up to 2^53. */
  below(bound: number): number {
    if (bound <= 0x1_0000_0000) return Math.floor((this.nextU32() / 0x1_0000_0000) * bound);
    const high = this.nextU32() >>> 11;
    return Math.floor(((high * 0x1_0000_0000 + this.nextU32()) / 2 ** 53) * bound);
  }

  /** True once in `n` calls, on average. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  /** One of the items. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** Fills a buffer with bytes. */
  fill(buffer: Uint8Array): Uint8Array {
    for (let i = 0; i < buffer.length; i += 4) {
      const word = this.nextU32();
      for (let j = 0; j < 4 && i + j < buffer.length; j++) buffer[i + j] = word >>> (8 * j);
    }
    return buffer;
  }

  /** `length` bytes, as a {@link RandomBytes} source gives them. */
  readonly bytes: RandomBytes = (length) => this.fill(new Uint8Array(length));
}
