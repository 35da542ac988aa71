/**
 * Crash enumeration of volumes: random work on recorded devices; then the power fails at many moments of it, with any
 * part of what was not flushed on the media. Every state must keep the promise.
 *
 * `VIMG_CRASH_STATES`: how many states (20,000). `VIMG_CRASH_SECONDS`: stop after this time. `VIMG_CRASH_SEED`: run
 * only this work, as a failure prints it.
 */
import { expect, it } from 'vitest';
import { isVimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { type RecordedEvent, RecordingDevice } from '../../src/device/recording-device.ts';
import { CrashStates, ShuffleDevice } from '../../src/testing/index.ts';
import { seal } from '../../src/vims/block.ts';
import { DeviceSet } from '../../src/vims/device-set.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import {
  BLOCK,
  CLUSTER,
  clusterAddress,
  firstBlockOf,
  GROUP_CLUSTERS,
  groupStart,
  SYSTEM_CLUSTERS,
} from '../../src/vims/geometry.ts';
import { Journal } from '../../src/vims/journal.ts';
import { GROUP_AT, HEADER } from '../../src/vims/layout.ts';
import { readSlot, writeSlot } from '../../src/vims/slot.ts';
import { readVolume } from '../../src/vims/superblock.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { CrashJudge } from './crash-judge.ts';
import { CrashWorkload, type Spare } from './crash-workload.ts';
import { CrashWorld, expectationAt } from './crash-world.ts';

const STATES = Number(process.env['VIMG_CRASH_STATES'] ?? 20_000);
const SECONDS = Number(process.env['VIMG_CRASH_SECONDS'] ?? 3600);
const ONLY_SEED = process.env['VIMG_CRASH_SEED'];
const MiB = 1024 * 1024;
const STEPS = 120;
/** Moments of one workload at which the power fails, and states for each. */
const MOMENTS = 70;
const STATES_EACH = 3;

/** Clusters of a journal, less the one that is left of it when it is shortened. */
const JOURNAL_REST = 3;

interface Totals {
  states: number;
  nested: number;
  workloads: number;
}

/** A device of the volume, and the position from which on it may be part of it. */
interface Medium {
  readonly start: MemoryDevice;
  readonly since: number;
  /** Position from which on it is part of it for certain. */
  settled: number;
}

/** A journal so short that it goes round often. The rest of it becomes free. */
async function shortenJournal(devices: readonly BlockDevice[], uuid: string): Promise<void> {
  const set = new DeviceSet(devices);
  const slot = await readSlot(set, uuid, 0);
  await Journal.format(set, uuid, { cluster: slot.journal, clusters: 1 });
  await writeSlot(set, uuid, 0, { ...slot, journalClusters: 1 });
  const group = firstBlockOf(clusterAddress(0, groupStart(0)));
  await edit(set, group, (view) => {
    view.setUint32(GROUP_AT.freeClusters, view.getUint32(GROUP_AT.freeClusters, true) + JOURNAL_REST, true);
  });
  await edit(set, group + 1, (view) => {
    for (let i = 0; i < JOURNAL_REST; i++) view.setUint16(HEADER + (2 + i) * 2, 0, true);
  });
}

async function edit(devices: DeviceSet, address: number, change: (view: DataView) => void): Promise<void> {
  const bytes = new Uint8Array(BLOCK);
  await devices.readBlock(bytes, address);
  change(new DataView(bytes.buffer));
  seal(bytes, 0);
  await devices.writeBlocks(bytes, address);
}

let crowded: Promise<MemoryDevice> | undefined;

/** A volume whose first group is full but for what is kept for metadata, and whose second one is not ready yet. */
async function makeCrowded(): Promise<MemoryDevice> {
  const rest = 64;
  const memory = MemoryDevice.create((SYSTEM_CLUSTERS + GROUP_CLUSTERS + rest) * CLUSTER);
  await formatVolume([memory]);
  const volume = await VimsVolume.attach('ds', [memory]);
  const { free } = await volume.capacity();
  const file = await volume.files.open('ds:ballast', { create: 'exclusive' });
  await file.writeZeroes(0, free - (rest + 2) * CLUSTER, { keepAllocated: true });
  await file.close();
  await volume.detach();
  return memory;
}

class Recorded {
  readonly events: RecordedEvent[] = [];
  readonly media: Medium[] = [];
  readonly world: CrashWorld = new CrashWorld(this.events);
  readonly isShort: boolean;
  readonly isCrowded: boolean;
  readonly #random: SeededRandom;
  readonly #uneven: boolean;

  /** @param isShort whether its journal goes round often */
  constructor(random: SeededRandom, uneven: boolean, isShort: boolean, isCrowded: boolean) {
    this.isShort = isShort;
    this.isCrowded = isCrowded;
    this.#random = random;
    this.#uneven = uneven;
  }

  makeDevice(
    memory: MemoryDevice = MemoryDevice.create(32 * MiB),
    settled = Number.MAX_SAFE_INTEGER,
  ): BlockDevice {
    const start = memory.fork();
    const inner = this.#uneven ? new ShuffleDevice(memory, this.#random.nextU32()) : memory;
    const device = new RecordingDevice(inner, this.events, this.media.length);
    this.media.push({ start, since: this.events.length, settled });
    return device;
  }

  async work(): Promise<void> {
    const random = this.#random;
    const memories = Array.from({ length: random.pick([1, 1, 2]) }, () => MemoryDevice.create(32 * MiB));
    const uuid = await formatVolume(memories);
    if (this.isShort && !this.isCrowded) await shortenJournal(memories, uuid);
    if (this.isCrowded) {
      crowded ??= makeCrowded();
      memories.splice(0, memories.length, (await crowded).fork());
      const volume = await VimsVolume.attach(
        'ds',
        memories.map((memory) => memory.fork()),
      );
      const { size = 0 } = (await volume.files.status('ds:ballast')) ?? {};
      this.world.begin({
        names: new Map([['ballast', 'it']]),
        files: new Map([['it', { size, words: new Map() }]]),
      });
    }
    const devices = memories.map((memory) => this.makeDevice(memory, 0));
    const spare = (): Spare => {
      const device = this.makeDevice();
      const medium = this.media.at(-1) as Medium;
      return {
        device,
        added: () => {
          medium.settled = this.events.length;
        },
      };
    };
    const most = this.#uneven ? 6 : 1;
    const work = new CrashWorkload({ world: this.world, random, devices, most, spare });
    await work.attach();
    await work.run(STEPS);
    if (random.oneIn(2)) await work.detach();
  }
}

/** The devices that belong to the volume: one that was being added may or may not. */
async function membersOf(media: MemoryDevice[], certain: number, possible: number): Promise<MemoryDevice[]> {
  for (let count = certain; count < possible; count++) {
    const members = media.slice(0, count);
    try {
      await readVolume(members);
      return members;
    } catch (error) {
      if (!isVimgError(error, 'NOT_FOUND')) throw error;
    }
  }
  return media.slice(0, possible);
}

async function runWorkload(seed: number, totals: Totals): Promise<void> {
  const random = new SeededRandom(seed);
  // in some workloads so few blocks in memory that they come and go all the time
  (LIMITS as { metadataCache: number }).metadataCache = random.pick([24, 8192]) * BLOCK;
  const recorded = new Recorded(random, random.oneIn(3), random.oneIn(2), seed % 16 === 0);
  const judge = new CrashJudge(random, 150, recorded.isShort && !recorded.isCrowded ? JOURNAL_REST * MiB : 0);
  try {
    await recorded.work();
  } catch (error) {
    throw new Error(`VIMG_CRASH_SEED=${seed}: at work: ${(error as Error).message}`, { cause: error });
  }
  const { events, media, world } = recorded;
  const states = media.map(({ start }, i) => new CrashStates(start, events, i));
  const moments = Array.from({ length: MOMENTS }, () => random.below(events.length + 1)).sort(
    (a, b) => a - b,
  );
  for (const position of moments) {
    const expected = expectationAt(world, position);
    for (let i = 0; i < STATES_EACH; i++) {
      const found = states.map((each) => each.at(position, random));
      try {
        const certain = media.filter(({ settled }) => settled <= position).length;
        const possible = media.filter(({ since }) => since <= position).length;
        await judge.judge(await membersOf(found, certain, possible), expected);
      } catch (error) {
        const where = `VIMG_CRASH_SEED=${seed}: crash after ${position} of ${events.length} events, state ${i}`;
        throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
      }
    }
  }
  totals.states += judge.counts.states;
  totals.nested += judge.counts.nested;
  totals.workloads++;
}

it(
  'every crash state of a volume keeps the promise',
  async () => {
    const totals: Totals = { states: 0, nested: 0, workloads: 0 };
    const first = ONLY_SEED === undefined ? 1 : Number(ONLY_SEED);
    const end = performance.now() + SECONDS * 1000;
    for (let seed = first; totals.states < STATES && performance.now() < end; seed++) {
      await runWorkload(seed, totals);
      if (ONLY_SEED !== undefined) break;
    }
    const { states, nested, workloads } = totals;
    process.stdout.write(
      `${states} crash states of volumes judged (${nested} of them crashes after crashes) in ${workloads} workloads\n`,
    );
    expect(states).toBeGreaterThan(0);
  },
  SECONDS * 1000 + 3_600_000,
);
