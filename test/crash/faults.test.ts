/**
 * Devices that fail: at every n-th read, write, flush, … once or from then on. Operations fail with the device's
 * error, no flush succeeds after one that failed, and what was flushed is there when the disk is opened again.
 */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { CountDevice } from '../../src/device/count-device.ts';
import { type Fault, FaultDevice } from '../../src/device/fault-device.ts';
import { Judge } from './judge.ts';
import { recordWorkload } from './workload.ts';

const EFFORT = Number(process.env['VIMG_MODEL_EFFORT'] ?? 1);
const STEPS = 40;
const FAULTS_EACH = 6;

const KINDS = ['read', 'write', 'zero', 'flush', 'discard', 'resize'] as const;

/** How many operations of each kind the workload makes when nothing fails. */
async function count(seed: number): Promise<Record<string, number>> {
  let device: CountDevice | undefined;
  const around = (file: BlockDevice): BlockDevice => {
    device = new CountDevice(file);
    return device;
  };
  await recordWorkload(seed, { steps: STEPS, around });
  return Object.fromEntries(KINDS.map((kind) => [kind, device?.counts[kind].operations ?? 0]));
}

async function runWithFault(seed: number, fault: Fault): Promise<number> {
  const around = (file: BlockDevice): BlockDevice => new FaultDevice(file, [fault]);
  const recorded = await recordWorkload(seed, { steps: STEPS, around, mayFail: ['IO', 'NO_SPACE'] });
  const judge = new Judge(recorded, new SeededRandom(seed));
  await judge.begin();
  await judge.judge(recorded.memory, judge.expectationAt(recorded.file.events.length), 2);
  return recorded.failures;
}

describe('a device that fails', () => {
  const seeds = Array.from({ length: 6 * EFFORT }, (_, i) => 1000 + i);
  it.each(seeds)('loses nothing that was flushed (seed %i)', async (seed) => {
    const counts = await count(seed);
    const random = new SeededRandom(seed);
    let failures = 0;
    for (const on of KINDS) {
      const total = counts[on] ?? 0;
      for (let i = 0; i < Math.min(total, FAULTS_EACH); i++) {
        const at = 1 + random.below(total);
        const error = random.pick(['EIO', 'ENOSPC'] as const);
        const fault: Fault = { on, at, error, sticky: random.oneIn(3), partialBytes: 512 * random.below(9) };
        try {
          failures += await runWithFault(seed, fault);
        } catch (cause) {
          throw new Error(`seed ${seed}, fault ${JSON.stringify(fault)}: ${(cause as Error).message}`, {
            cause,
          });
        }
      }
    }
    expect(failures).toBeGreaterThan(0);
  });
});
