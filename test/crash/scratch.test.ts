import { it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { CrashStates } from '../../src/testing/index.ts';
import { Judge } from './judge.ts';
import { recordWorkload } from './workload.ts';

it('scratch', async () => {
  const from = Number(process.env['FROM'] ?? 1),
    to = Number(process.env['TO'] ?? 100);
  let n = 0;
  for (let seed = from; seed < to; seed++) {
    let recorded;
    try {
      recorded = await recordWorkload(seed, { steps: 80 });
    } catch (e) {
      console.log(
        'WORKLOAD',
        seed,
        (e as Error).message,
        (e as Error).stack?.split('\n').slice(1, 6).join('|'),
      );
      continue;
    }
    const random = new SeededRandom(seed + 1);
    const { events } = recorded.file;
    const moments = Array.from({ length: 60 }, () => random.below(events.length + 1)).sort((a, b) => a - b);
    const states = new CrashStates(recorded.start, events);
    const judge = new Judge(recorded, random);
    let bad = 0;
    for (const p of moments) {
      const e = judge.expectationAt(p);
      for (let i = 0; i < 3; i++) {
        try {
          await judge.judge(states.at(p, random), e);
        } catch (err) {
          if (bad++ < 2)
            console.log(
              'BAD',
              seed,
              p,
              i,
              (err as Error).message.slice(0, 300),
              (err as Error).stack
                ?.split('\n')
                .filter((l) => /formats|judge/.test(l))
                .slice(0, 5)
                .join('|'),
            );
        }
      }
    }
    n += judge.counts.states;
    if (bad) console.log('seed', seed, 'bad', bad);
  }
  console.log('states', n);
}, 36000000);
