/**
 * Judging one crash state of a volume: it can be attached, for reading and for writing, and holds what may be there; it
 * can be worked on, and gives all its space back. Another crash may come at any time.
 */
import { deepEqual, equal } from 'node:assert/strict';
import { isVimgError } from '../../src/base/errors.ts';
import type { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { type RecordedEvent, RecordingDevice } from '../../src/device/recording-device.ts';
import { CrashStates } from '../../src/testing/index.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { CrashWorkload } from './crash-workload.ts';
import { CrashWorld, type Expectation, expectationAt, type Found, lookAt } from './crash-world.ts';

export interface JudgeCounts {
  states: number;
  /** Crashes during or after the recovery from a crash. */
  nested: number;
}

export class CrashJudge {
  readonly counts: JudgeCounts = { states: 0, nested: 0 };
  readonly #random: SeededRandom;
  /** Files of a volume that was worked on after a crash are counted from here. */
  readonly #firstId: number;

  readonly #saved: number;

  /** @param saved bytes that the volume has more than others of its size, since its journal is shorter */
  constructor(random: SeededRandom, firstId: number, saved: number) {
    this.#saved = saved;
    this.#random = random;
    this.#firstId = firstId;
  }

  /** @throws AssertionError with what is wrong */
  async judge(media: readonly MemoryDevice[], expected: Expectation, depth = 0): Promise<void> {
    const random = this.#random;
    this.counts.states++;
    if (depth > 0) this.counts.nested++;
    if (random.oneIn(20)) await checkClean(media, 'after the crash');
    const seen = random.oneIn(4) ? await this.#look(media, expected) : undefined;
    const start = media.map((medium) => medium.fork());
    const events: RecordedEvent[] = [];
    const devices = media.map((medium, i) => new RecordingDevice(medium, events, i));
    const world = new CrashWorld(events, this.#firstId + depth * 40);
    const work = new CrashWorkload({ world, random, devices, most: 1 });
    await work.attach();
    const opened = events.length;
    const found = await lookAt(work.volume, expected);
    if (seen) deepEqual(found, seen, 'what is seen for reading only is what is seen then');
    world.begin(found);
    const again = depth < 2 && random.oneIn(6);
    if (again || random.oneIn(3)) await work.run(again ? 6 : 3);
    await work.closeAll();
    if (random.oneIn(6)) await this.#leave(work, world, media);
    if (again) await this.#crashAgain(start, events, opened, expected, world, depth + 1);
    if (random.oneIn(8))
      await this.#empty(
        work.volume,
        media.map(({ size }) => size),
      );
  }

  /** Attaches for reading only, which must change nothing. */
  async #look(media: readonly MemoryDevice[], expected: Expectation): Promise<Found> {
    const volume = await VimsVolume.attach(
      'ds',
      media.map((medium) => medium.fork({ readOnly: true })),
    );
    const found = await lookAt(volume, expected);
    await volume.detach();
    return found;
  }

  /** Leaves the volume in order and attaches it again. */
  async #leave(work: CrashWorkload, world: CrashWorld, media: readonly MemoryDevice[]): Promise<void> {
    await work.detach();
    if (this.#random.oneIn(3)) await checkClean(media, 'left in order');
    await work.attach();
    await lookAt(work.volume, expectationAt(world));
  }

  async #crashAgain(
    start: readonly MemoryDevice[],
    events: readonly RecordedEvent[],
    opened: number,
    expected: Expectation,
    world: CrashWorld,
    depth: number,
  ): Promise<void> {
    const length = world.position;
    const inAttach = this.#random.below(opened + 1);
    const after = opened + this.#random.below(length - opened + 1);
    const states = start.map((medium, i) => new CrashStates(medium, events, i));
    const media = (position: number): MemoryDevice[] => states.map((each) => each.at(position, this.#random));
    await this.judge(media(inAttach), expected, depth);
    await this.judge(media(after), expectationAt(world, after), depth);
  }

  /** Removes everything: all space comes back. */
  async #empty(volume: VimsVolume, sizes: readonly number[]): Promise<void> {
    await removeAll(volume, '');
    await volume.files.syncFolder('ds:');
    const { used } = await volume.capacity();
    equal(used, (await usedWhenEmpty(sizes)) - this.#saved, 'bytes used when nothing is there');
    await volume.detach();
  }
}

/** The check finds nothing. */
async function checkClean(media: readonly MemoryDevice[], when: string): Promise<void> {
  const { findings } = await checkVolume(media.map((medium) => medium.fork({ readOnly: true })));
  deepEqual(findings, [], `what the check finds ${when}`);
}

async function removeAll(volume: VimsVolume, folder: string): Promise<void> {
  for (const name of await volume.files.list(`ds:${folder}`)) {
    const path = folder === '' ? name : `${folder}/${name}`;
    try {
      await volume.files.remove(`ds:${path}`);
    } catch (error) {
      if (!isVimgError(error, 'USAGE')) throw error;
      await removeAll(volume, path);
      await volume.files.removeFolder(`ds:${path}`);
    }
  }
}

const USED = new Map<string, number>();

/** What is used of a fresh volume on devices of these sizes. */
async function usedWhenEmpty(sizes: readonly number[]): Promise<number> {
  const key = sizes.join();
  const known = USED.get(key);
  if (known !== undefined) return known;
  const [first, ...others] = sizes.map((size) => MemoryDevice.create(size)) as [
    MemoryDevice,
    ...MemoryDevice[],
  ];
  await formatVolume([first]);
  const volume = await VimsVolume.attach('ds', [first]);
  // the journal is as long as the first device wants it
  for (const device of others) await volume.addDevice(device);
  const { used } = await volume.capacity();
  USED.set(key, used);
  return used;
}
