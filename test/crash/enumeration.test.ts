/**
 * Crash enumeration: random workloads are recorded; then the power fails at many moments of each, with any part of
 * what was not flushed on the medium. Every state must keep the promise of the format.
 *
 * The disk's file is the medium; or it is in a volume on the medium, which must be attached first.
 *
 * `VIMG_CRASH_STATES`: how many states (20,000; in a volume a fortieth of that). `VIMG_CRASH_SECONDS`: stop after this time. `VIMG_CRASH_SEED`: run
 * only this workload, as a failure prints it.
 */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { CrashStates } from '../../src/testing/index.ts';
import { type DiskPlace, IN_A_VOLUME, ON_THE_MEDIUM } from './disk-place.ts';
import { Judge } from './judge.ts';
import { recordWorkload } from './workload.ts';

const STATES = Number(process.env['VIMG_CRASH_STATES'] ?? 20_000);
const SECONDS = Number(process.env['VIMG_CRASH_SECONDS'] ?? 3600);
const ONLY_SEED = process.env['VIMG_CRASH_SEED'];
/** Of so many states, one more is judged in a volume: that takes longer. */
const VOLUME_SHARE = 40;
const STEPS = 80;
/** Moments of one workload at which the power fails, and states for each. */
const MOMENTS = 60;
const VOLUME_MOMENTS = 12;
const STATES_EACH = 3;

interface Totals {
  states: number;
  nested: number;
  workloads: number;
  leakedMost: number;
}

async function runWorkload(seed: number, totals: Totals, place: DiskPlace): Promise<void> {
  const count = place === ON_THE_MEDIUM ? MOMENTS : VOLUME_MOMENTS;
  const recorded = await recordWorkload(seed, { steps: STEPS, place });
  const random = new SeededRandom(seed + 1);
  const { events } = recorded.file;
  const moments = Array.from({ length: count }, () => random.below(events.length + 1)).sort((a, b) => a - b);
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

describe('every crash state keeps the promise', () => {
  it.each([
    ['of a disk in a file', ON_THE_MEDIUM, STATES],
    ['of a disk in a volume', IN_A_VOLUME, Math.ceil(STATES / VOLUME_SHARE)],
  ] as const)(
    '%s',
    async (name, place, statesMax) => {
      const totals: Totals = { states: 0, nested: 0, workloads: 0, leakedMost: 0 };
      const first = ONLY_SEED === undefined ? 1 : Number(ONLY_SEED);
      const end = performance.now() + SECONDS * 1000;
      for (let seed = first; totals.states < statesMax && performance.now() < end; seed++) {
        await runWorkload(seed, totals, place);
        if (ONLY_SEED !== undefined) break;
      }
      const { states, nested, workloads, leakedMost } = totals;
      process.stdout.write(
        `${states} crash states ${name} judged (${nested} of them crashes after crashes) in ${workloads} ` +
          `workloads, at most ${leakedMost} bytes leaked\n`,
      );
      expect(states).toBeGreaterThan(0);
    },
    SECONDS * 1000 + 3_600_000,
  );
});
