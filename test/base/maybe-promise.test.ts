import { expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { isPromise } from '../../src/base/maybe-promise.ts';
import { ManualClock } from '../../src/testing/index.ts';

it('tells a promise from what is at hand', () => {
  expect(isPromise(Promise.resolve(1))).toBe(true);
  expect([isPromise(1), isPromise(undefined), isPromise(null)]).toEqual([false, false, false]);
});

it('has a clock that never goes back, and one that a test moves', async () => {
  const before = systemClock.nowMs();
  await systemClock.sleep(1);
  expect(systemClock.nowMs()).toBeGreaterThanOrEqual(before);
  const clock = new ManualClock();
  const woken: number[] = [];
  const sleepers = [20, 5, 10].map(async (ms) => {
    await clock.sleep(ms);
    woken.push(clock.nowMs());
  });
  await clock.advance(15);
  expect(woken).toEqual([5, 10]);
  expect(clock.nowMs()).toBe(15);
  await clock.advance(5);
  await Promise.all(sleepers);
  expect(woken).toEqual([5, 10, 20]);
});
