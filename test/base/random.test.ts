import { describe, expect, it } from 'vitest';
import { SeededRandom, systemRandom } from '../../src/base/random.ts';

describe('SeededRandom', () => {
  it('repeats itself from the same seed, and not from another', () => {
    const bytes = (seed: number): string => Buffer.from(new SeededRandom(seed).bytes(33)).toString('hex');
    expect(bytes(7)).toBe(bytes(7));
    expect(bytes(7)).not.toBe(bytes(8));
  });

  it('stays below its bound, reaches all of it, and reaches past 32 bits', () => {
    const random = new SeededRandom(1);
    const seen = new Set(Array.from({ length: 400 }, () => random.below(10)));
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const large = Array.from({ length: 100 }, () => random.below(2 ** 53));
    expect(large.every((value) => Number.isSafeInteger(value) && value >= 0)).toBe(true);
    expect(large.some((value) => value > 2 ** 52)).toBe(true);
    expect(Array.from({ length: 100 }, () => random.oneIn(2)).filter(Boolean).length).toBeGreaterThan(20);
    expect(['a', 'b']).toContain(random.pick(['a', 'b']));
  });

  it('fills every byte', () => {
    const random = new SeededRandom(3);
    const sums = new Uint32Array(7);
    for (let i = 0; i < 50; i++) {
      for (const [at, byte] of random.bytes(7).entries()) sums[at] = (sums[at] ?? 0) + byte;
    }
    expect(sums.every((sum) => sum > 0)).toBe(true);
  });
});

describe('systemRandom', () => {
  it('gives the length asked for, and never the same twice', () => {
    expect(systemRandom(16).length).toBe(16);
    expect(Buffer.compare(systemRandom(16), systemRandom(16))).not.toBe(0);
  });
});
