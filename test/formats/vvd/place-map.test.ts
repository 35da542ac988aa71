/** The map of places against a plain array of bytes: uses, conflicts, and windows that are too small for the file. */
import { describe, expect, it } from 'vitest';
import { PlaceMap } from '../../../formats/vvd/place-map.ts';
import { SeededRandom } from '../../../src/base/random.ts';

const PAGE = 4096;
const BLOCK = 64 * 1024;
const GRANULE = 16;
/** Where the marks lie: around the border of two segments of 1 GiB, and far behind. */
const BASES = [2 ** 30 - 8 * BLOCK, 2 ** 36 + 3 * 2 ** 30 + 64 * 2 ** 20 - 8 * BLOCK];
const AREA = 16 * BLOCK;

interface Mark {
  readonly way: 'blocks' | 'pages' | 'packed';
  readonly place: number;
  readonly length: number;
}

function randomMarks(random: SeededRandom, count: number): Mark[] {
  return Array.from({ length: count }, (): Mark => {
    const base = random.pick(BASES);
    switch (random.below(3)) {
      case 0: {
        const blocks = 1 + random.below(3);
        const step = random.oneIn(2) ? BLOCK : PAGE;
        const place = base + random.below((AREA - blocks * BLOCK) / step + 1) * step;
        return { way: 'blocks', place, length: blocks * BLOCK };
      }
      case 1: {
        const pages = 1 + random.below(4);
        return {
          way: 'pages',
          place: base + random.below(AREA / PAGE - pages + 1) * PAGE,
          length: pages * PAGE,
        };
      }
      default: {
        const length = 1 + random.below(9000);
        const place = base + random.below(Math.floor((AREA - length) / GRANULE)) * GRANULE;
        return { way: 'packed', place, length };
      }
    }
  });
}

function markAll(map: PlaceMap, marks: readonly Mark[]): void {
  for (const { way, place, length } of marks) {
    if (way === 'blocks') map.markBlocks(place / PAGE, length / BLOCK);
    else if (way === 'pages') map.mark(place, length);
    else map.markPacked(place, length);
  }
}

/** Pages in use, and granules used more than once. */
function model(marks: readonly Mark[], base: number): { used: Uint8Array; twice: Uint8Array } {
  const counts = new Uint8Array(AREA / GRANULE);
  const used = new Uint8Array(AREA / PAGE);
  for (const { place, length } of marks) {
    if (place < base || place >= base + AREA) continue;
    const first = (place - base) / GRANULE;
    const end = first + Math.ceil(length / GRANULE);
    for (let i = first; i < end; i++) counts[i] = (counts[i] as number) + 1;
    used.fill(1, Math.floor((first * GRANULE) / PAGE), Math.ceil((end * GRANULE) / PAGE));
  }
  return { used, twice: counts.map((count) => (count > 1 ? 1 : 0)) };
}

function seen(ranges: readonly { from: number; to: number }[], base: number, step: number): Uint8Array {
  const bits = new Uint8Array(AREA / step);
  for (const { from, to } of ranges) {
    const first = Math.max(0, (from - base) / step);
    const end = Math.min(bits.length, (to - base) / step);
    if (end > first) bits.fill(1, first, end);
  }
  return bits;
}

describe('the map of places', () => {
  it.each([
    [1, 3, undefined],
    [2, 12, undefined],
    [3, 40, undefined],
    [4, 12, 6000],
    [5, 40, 6000],
    [6, 40, 1],
  ])('finds uses and conflicts (seed %i, %i marks, memory %s)', (seed, count, memory) => {
    const random = new SeededRandom(seed);
    for (let round = 0; round < 40; round++) {
      const marks = randomMarks(random, count);
      const map = new PlaceMap(BLOCK, memory);
      const runs: { from: number; to: number }[] = [];
      let windows = 0;
      do {
        markAll(map, marks);
        windows++;
      } while (map.endWindow((from, to) => runs.push({ from, to })));
      expect(windows > 1).toBe(memory !== undefined && new Set(marks.map(segmentOf)).size > 1);
      expect(runs).toEqual(runs.toSorted((a, b) => a.from - b.from));
      for (let i = 1; i < runs.length; i++) expect(runs[i]?.from).toBeGreaterThan(runs[i - 1]?.to ?? 0);
      const conflicts = map.conflicts.map(({ place, length }) => ({ from: place, to: place + length }));
      for (const base of BASES) {
        const expected = model(marks, base);
        expect(Buffer.compare(seen(runs, base, PAGE), expected.used)).toBe(0);
        expect(Buffer.compare(seen(conflicts, base, GRANULE), expected.twice)).toBe(0);
      }
    }
  });

  it('keeps a bounded number of conflicts, and counts the rest', () => {
    const map = new PlaceMap(BLOCK);
    for (let i = 0; i < 20_001; i++) {
      map.mark(i * 2 * PAGE, PAGE);
      map.mark(i * 2 * PAGE, PAGE);
    }
    expect(map.conflicts.length).toBe(10_000);
    expect(map.conflictsLeftOut).toBe(10_001);
  });
});

/** Segments that a mark lies in, as a key. */
function segmentOf({ place, length }: Mark): string {
  return `${Math.floor(place / 2 ** 30)} ${Math.floor((place + length - 1) / 2 ** 30)}`;
}
