/** Statistics of requests: counts, and percentiles within an eighth. */
import { expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { CMD_READ, CMD_WRITE } from '../../src/nbd/protocol.ts';
import { RequestStatistics } from '../../src/nbd/request-statistics.ts';

it('percentiles are right within an eighth, and counts are exact', () => {
  const random = new SeededRandom(3);
  const statistics = new RequestStatistics();
  const all = Array.from({ length: 10_000 }, () => Math.floor(2 ** (random.below(2500) / 100)));
  for (const [index, micros] of all.entries()) {
    statistics.started();
    statistics.finished(CMD_READ, 4096, micros, index < 10, index % 2 === 0);
  }
  statistics.started();
  const { 'in-flight': inFlight, commands } = statistics.toJSON();
  const read = commands['read'];
  expect(inFlight).toBe(1);
  expect(Object.keys(commands)).toEqual(['read']);
  expect(read).toMatchObject({ requests: 10_000, errors: 10, bytes: 9990 * 4096, 'at-hand': 5000 });
  const sorted = all.toSorted((a, b) => a - b);
  for (const quantile of [50, 90, 99, 99.9]) {
    const exact = sorted[Math.ceil(quantile * 100) - 1] as number;
    const told = read?.['latency-us'][`p${quantile}`] as number;
    expect(told).toBeGreaterThanOrEqual(exact);
    expect(told).toBeLessThanOrEqual(exact * 1.126);
  }
  expect(read?.['latency-us']['max']).toBe(sorted.at(-1));
  statistics.finished(CMD_WRITE, 0, 2 ** 40, false, false);
  statistics.finished(99, 0, 1, true, true);
  expect(statistics.toJSON().commands['write']?.requests).toBe(1);
});
