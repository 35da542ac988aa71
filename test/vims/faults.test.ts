/**
 * Devices that fail, at every read, write and flush of a workload one after the other. Operations end with an error of
 * ours, no flush succeeds after one that failed, and what was flushed is there when the volume is attached again.
 */
import { deepEqual, ok } from 'node:assert/strict';
import { describe, expect, it } from 'vitest';
import { isVimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { CountDevice } from '../../src/device/count-device.ts';
import { type Fault, FaultDevice } from '../../src/device/fault-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { type RecordedEvent, RecordingDevice } from '../../src/device/recording-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { CrashWorkload } from './crash-workload.ts';
import { CrashWorld, expectationAt, type Found, lookAt } from './crash-world.ts';

const MiB = 1024 * 1024;
const STEPS = 45;
const KINDS = ['read', 'write', 'flush'] as const;
const EFFORT = Number(process.env['VIMG_MODEL_EFFORT'] ?? 1);

interface Start {
  readonly memory: MemoryDevice;
  readonly found: Found;
}

/** A volume that was used and not left in order: there is something to replay, and nothing is in memory. */
async function usedVolume(seed: number): Promise<Start> {
  const memory = MemoryDevice.create(32 * MiB);
  await formatVolume([memory]);
  const world = new CrashWorld([]);
  const work = new CrashWorkload({ world, random: new SeededRandom(seed), devices: [memory], most: 1 });
  await work.attach();
  await work.run(STEPS);
  const found = await lookAt(work.volume, expectationAt(world));
  await work.volume.files.syncFolder('ds:');
  return { memory, found };
}

interface Outcome {
  readonly errors: number;
  readonly world: CrashWorld;
}

/** Does the work as far as it goes. */
async function work(seed: number, { found }: Start, device: BlockDevice): Promise<Outcome> {
  const events: RecordedEvent[] = [];
  const world = new CrashWorld(events, 100);
  world.begin(found);
  const devices = [new RecordingDevice(device, events)];
  const random = new SeededRandom(seed);
  const workload = new CrashWorkload({ world, random, devices, most: 1 });
  let errors = 0;
  const attempt = async (what: () => Promise<unknown>): Promise<boolean> => {
    try {
      await what();
      return true;
    } catch (error) {
      if (!isVimgError(error, 'IO') && !isVimgError(error, 'NO_SPACE')) throw error;
      errors++;
      return false;
    }
  };
  if (!(await attempt(() => workload.attach()))) return { errors, world };
  for (let i = 0; i < STEPS && !workload.broken; i++) await attempt(() => workload.step());
  const { files } = workload.volume;
  const flushed = await attempt(() => files.syncFolder('ds:'));
  const again = await attempt(() => files.syncFolder('ds:'));
  ok(flushed || !again, 'no flush succeeds after one that failed');
  await attempt(() => workload.detach());
  return { errors, world };
}

async function runWithFault(seed: number, start: Start, fault: Fault): Promise<number> {
  const memory = start.memory.fork();
  const { errors, world } = await work(seed, start, new FaultDevice(memory, [fault]));
  const volume = await VimsVolume.attach('ds', [memory]);
  await lookAt(volume, expectationAt(world));
  await volume.detach();
  deepEqual((await checkVolume([memory])).findings, [], 'what the check finds');
  return errors;
}

describe('a volume on a device that fails', () => {
  const seeds = Array.from({ length: 2 * EFFORT }, (_, i) => 500 + i);
  it.each(seeds)('loses nothing that was flushed (seed %i)', async (seed) => {
    const start = await usedVolume(seed);
    const counted = new CountDevice(start.memory.fork());
    expect((await work(seed, start, counted)).errors).toBe(0);
    const random = new SeededRandom(seed);
    let errors = 0;
    for (const on of KINDS) {
      for (let at = 1; at <= counted.counts[on].operations; at++) {
        const error = on === 'write' && random.oneIn(2) ? 'ENOSPC' : 'EIO';
        const fault: Fault = { on, at, error, sticky: random.oneIn(3), partialBytes: 512 * random.below(9) };
        try {
          errors += await runWithFault(seed, start, fault);
        } catch (cause) {
          const what = `seed ${seed}, fault ${JSON.stringify(fault)}`;
          throw new Error(`${what}: ${(cause as Error).message}`, { cause });
        }
      }
    }
    expect(errors).toBeGreaterThan(0);
  });
});
