/** The map of a group's free clusters, against a plain list of them. */
import { expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { FreeMap, SEGMENT } from '../../src/vims/free-map.ts';

/** What the map says, the slow way. */
class PlainList {
  readonly free: boolean[];

  constructor(length: number) {
    this.free = Array.from({ length }, () => true);
  }

  runAt(i: number): number {
    let end = i;
    while (this.free[end]) end++;
    return end - i;
  }

  get longest(): number {
    return Math.max(0, ...this.free.map((_, i) => this.runAt(i)));
  }

  isWhole(segment: number): boolean {
    return this.runAt(segment * SEGMENT) >= SEGMENT;
  }
}

function checkFinds(map: FreeMap, list: PlainList, random: SeededRandom): void {
  const segment = map.findSegment();
  const whole = list.free.filter((_, i) => i % SEGMENT === 0 && list.isWhole(i / SEGMENT)).length;
  expect(map.wholeSegments).toBe(whole);
  expect(segment === undefined).toBe(whole === 0);
  if (segment !== undefined) expect(list.isWhole(segment / SEGMENT)).toBe(true);
  const want = 1 + random.below(random.pick([4, SEGMENT]));
  const least = random.below(want);
  const run = map.findRun(want, least);
  const longest = Math.min(want, list.longest);
  expect(run?.length ?? 0).toBe(longest > least ? longest : 0);
  if (run) expect(list.runAt(run.first)).toBeGreaterThanOrEqual(run.length);
}

/** A run around a cluster is free, within its bounds, and cannot be longer. */
function checkAround(map: FreeMap, list: PlainList, random: SeededRandom): void {
  const i = random.below(list.free.length);
  const [before, after] = [random.below(80), 1 + random.below(80)];
  const run = map.runAround(i, before, after);
  expect(run !== undefined).toBe(list.free[i]);
  if (!run) return;
  const end = run.first + run.length;
  expect(list.runAt(run.first)).toBeGreaterThanOrEqual(run.length);
  expect(i - run.first).toBeLessThanOrEqual(before);
  expect(end - i).toBeLessThanOrEqual(after);
  const mayGoTo = (to: number, from: number): boolean =>
    list.free[to] === true &&
    (Math.floor(to / SEGMENT) === Math.floor(from / SEGMENT) || list.isWhole(Math.floor(to / SEGMENT)));
  if (i - run.first < before) expect(mayGoTo(run.first - 1, run.first)).toBe(false);
  if (end - i < after) expect(mayGoTo(end, end - 1)).toBe(false);
}

it('knows what may be given away', () => {
  const random = new SeededRandom(5);
  for (let round = 0; round < 30; round++) {
    const list = new PlainList(1 + random.below(5 * SEGMENT));
    const map = new FreeMap(list.free.length);
    for (let step = 0; step < 60; step++) {
      const i = random.below(list.free.length);
      const count = list.free[i] ? 1 + random.below(Math.min(list.runAt(i), 100)) : 1;
      if (list.free[i]) map.take(i, count);
      else map.give(i);
      list.free.fill(!list.free[i], i, i + count);
      if (random.oneIn(20)) {
        list.free.push(...new PlainList(random.below(100)).free);
        map.grow(list.free.length);
      }
      expect(map.length).toBe(list.free.length);
      expect(map.free).toBe(list.free.filter((each) => each).length);
      checkFinds(map, list, random);
      checkAround(map, list, random);
    }
  }
});

it('gives nothing away twice', () => {
  const map = new FreeMap(100);
  map.take(10, 5);
  expect(() => map.take(14, 1)).toThrow();
  expect(() => map.give(15)).toThrow();
  expect(() => map.give(100)).toThrow();
});
