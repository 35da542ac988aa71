/**
 * Crash enumeration: random workloads are recorded; then the power fails at many moments of each, with any part of
 * what was not flushed on the medium. Every state must keep the promise of the format.
 *
 * `VIMG_CRASH_STATES`: how many states (20,000). `VIMG_CRASH_SECONDS`: stop after this time. `VIMG_CRASH_SEED`: run
 * only this workload, as a failure prints it.
 */
import { expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { CrashStates } from '../../src/testing/index.ts';
import { Judge } from './judge.ts';
import { recordWorkload } from './workload.ts';

const STATES = Number(process.env['VIMG_CRASH_STATES'] ?? 20_000);
const SECONDS = Number(process.env['VIMG_CRASH_SECONDS'] ?? 3600);
const ONLY_SEED = process.env['VIMG_CRASH_SEED'];
const STEPS = 80;
/** Moments of one workload at which the power fails, and states for each. */
const MOMENTS = 60;
const STATES_EACH = 3;

interface Totals {
  states: number;
  nested: number;
  workloads: number;
  leakedMost: number;
}

async function runWorkload(seed: number, totals: Totals): Promise<void> {
  const recorded = await recordWorkload(seed, { steps: STEPS });
  const random = new SeededRandom(seed + 1);
  const { events } = recorded.file;
  const moments = Array.from({ length: MOMENTS }, () => random.below(events.length + 1)).sort(
    (a, b) => a - b,
  );
  const states = new CrashStates(recorded.start, events);
  const judge = new Judge(recorded, random);
  await judge.begin();
  for (const position of moments) {
    const expected = judge.expectationAt(position);
    for (let i = 0; i < STATES_EACH; i++) {
      try {
        await judge.judge(states.at(position, random), expected);
      } catch (error) {
        const where = `VIMG_CRASH_SEED=${seed}: crash after ${position} of ${events.length} events, state ${i}`;
        throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
      }
    }
  }
  totals.states += judge.counts.states;
  totals.nested += judge.counts.nested;
  totals.leakedMost = Math.max(totals.leakedMost, judge.counts.leakedMost);
  totals.workloads++;
}

it(
  'every crash state keeps the promise',
  async () => {
    const totals: Totals = { states: 0, nested: 0, workloads: 0, leakedMost: 0 };
    const first = ONLY_SEED === undefined ? 1 : Number(ONLY_SEED);
    const end = performance.now() + SECONDS * 1000;
    for (let seed = first; totals.states < STATES && performance.now() < end; seed++) {
      await runWorkload(seed, totals);
      if (ONLY_SEED !== undefined) break;
    }
    const { states, nested, workloads, leakedMost } = totals;
    process.stdout.write(
      `${states} crash states judged (${nested} of them crashes after crashes) in ${workloads} workloads, ` +
        `at most ${leakedMost} bytes leaked\n`,
    );
    expect(states).toBeGreaterThan(0);
  },
  SECONDS * 1000 + 3_600_000,
);
