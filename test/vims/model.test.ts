/**
 * Random operations on a volume and on a model of it: what can be seen is the same, also after it was left and attached
 * again, and when everything is removed no cluster is missing.
 *
 * `VIMG_MODEL_EFFORT`: so many times as many runs. `VIMG_VIMS_SEED`: only this one, as a failure prints it.
 */
import { equal } from 'node:assert/strict';
import { expect, it } from 'vitest';
import { LIMITS } from '../../src/base/limits.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { ShuffleDevice } from '../../src/testing/index.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { ModelSteps } from './model-steps.ts';
import { ModelVolume } from './model-volume.ts';

const MiB = 1024 * 1024;
const EFFORT = Number(process.env['VIMG_MODEL_EFFORT'] ?? 1);
const RUNS = 24 * EFFORT;
const ONLY_SEED = process.env['VIMG_VIMS_SEED'];
const BATCHES = 60;

interface Medium {
  readonly memory: MemoryDevice;
  readonly device: BlockDevice;
}

function makeMedium(random: SeededRandom, uneven: boolean): Medium {
  const memory = MemoryDevice.create((32 + random.below(random.pick([1, 24]))) * MiB);
  return { memory, device: uneven ? new ShuffleDevice(memory, random.nextU32()) : memory };
}

/** The devices change while the volume is in use: one is added, or one has grown. */
async function extend(world: ModelVolume, media: Medium[], uneven: boolean): Promise<void> {
  const { random, volume } = world;
  if (media.length < 3 && random.oneIn(2)) {
    const medium = makeMedium(random, uneven);
    await volume.addDevice(medium.device);
    media.push(medium);
    return;
  }
  const { memory } = random.pick(media);
  const more = random.below(8) * MiB;
  memory.resize(memory.size + more);
  equal(await volume.grow(), more);
}

/** Takes most of the space, so that the rest is full often. */
async function takeSpace({ names, volume, handles, setSize }: ModelVolume, bytes: number): Promise<void> {
  const file = names.makeFile();
  const device = await volume.files.open('ds:ballast', { create: 'exclusive' });
  (names.put('ballast', file) as () => void)();
  await device.writeZeroes(0, bytes, { keepAllocated: true });
  setSize(file, bytes);
  handles.push({ file, device });
}

async function run(seed: number): Promise<number> {
  const random = new SeededRandom(seed);
  const most = random.pick([1, 4, 8]);
  const uneven = most > 1;
  const media = Array.from({ length: random.pick([1, 1, 2]) }, () => makeMedium(random, uneven));
  const world = new ModelVolume(random, () => media.map(({ device }) => device));
  const hungry = random.oneIn(2);
  const steps = new ModelSteps(world, most, hungry);
  try {
    await formatVolume(media.map(({ device }) => device));
    await world.attach();
    if (hungry) await takeSpace(world, (await world.volume.capacity()).free - (2 + random.below(6)) * MiB);
    for (let i = 0; i < BATCHES; i++) {
      await steps.batch();
      if (random.oneIn(25)) await world.verify();
      if (random.oneIn(60)) await extend(world, media, uneven);
      if (!random.oneIn(30)) continue;
      await world.detach();
      await world.attach();
      await world.verify();
    }
    await world.verify();
    await world.removeAll();
    const { capacity, free } = await world.volume.capacity();
    const fresh = media.map(({ memory }) => MemoryDevice.create(Math.floor(memory.size / MiB) * MiB));
    await formatVolume(fresh);
    const other = new ModelVolume(random, () => fresh);
    await other.attach();
    const expected = await other.volume.capacity();
    equal(capacity, expected.capacity, 'capacity');
    equal(free, expected.free, 'bytes free when everything was removed');
    await world.detach();
    return world.full;
  } catch (error) {
    const log = steps.log.slice(-12).join('\n  ');
    throw new Error(`VIMG_VIMS_SEED=${seed}: ${(error as Error).message}\n  ${log}`, { cause: error });
  }
}

it('a volume does what its model does', { timeout: 240_000 * EFFORT }, async () => {
  let full = 0;
  // so few blocks in memory that they come and go all the time
  (LIMITS as { metadataCache: number }).metadataCache = 24 * 4096;
  const first = ONLY_SEED === undefined ? 1 : Number(ONLY_SEED);
  for (let seed = first; seed < first + (ONLY_SEED === undefined ? RUNS : 1); seed++) full += await run(seed);
  process.stdout.write(`${full} operations found the volume full\n`);
  if (ONLY_SEED === undefined) expect(full).toBeGreaterThan(0);
});
