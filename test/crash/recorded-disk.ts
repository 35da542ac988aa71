/** A VVD disk whose file is recorded: what a random workload runs on, and what a crash is judged by afterwards. */
import { createVvd } from '../../formats/vvd/create.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import type { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import type { RecordingDevice } from '../../src/device/recording-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { SECTOR, SectorHistory } from '../../src/testing/index.ts';
import type { DiskPlace } from './disk-place.ts';

const KiB = 1024;
const GiB = KiB ** 3;
/** Blocks that one table page maps. */
const TABLE_BLOCKS = 252;
/** Writes of a parent are counted from here, so that its words are its own. */
const PARENT_VERSIONS = 100_000;

export interface Span {
  readonly offset: number;
  readonly length: number;
}

/** A disk's measures, and the parts of it that are used. */
export interface DiskShape {
  readonly blockSize: number;
  /** Size at creation, and the largest that it gets. */
  readonly size: number;
  readonly sizeMax: number;
  readonly windows: readonly Span[];
  readonly compression: string;
  readonly provisioning: string;
}

/** A value that changes at one moment of the log: in a crash between `since` and `settled` it is either. */
export interface Change<T> {
  readonly value: T;
  readonly since: number;
  settled: number;
}

/** A recorded workload. */
export interface Recorded {
  readonly shape: DiskShape;
  /** Where the disk's file is on the medium. */
  readonly place: DiskPlace;
  /** The medium before the first event. */
  readonly start: MemoryDevice;
  readonly parent: MemoryDevice | undefined;
  /** The medium, recorded. */
  readonly file: RecordingDevice;
  readonly history: SectorHistory;
  readonly sizes: readonly Change<number>[];
  readonly labels: readonly Change<string>[];
}

/** What the value may be after a crash at `position`. */
export function possible<T>(changes: readonly Change<T>[], position: number): T[] {
  let first = 0;
  for (const [i, change] of changes.entries()) if (change.settled <= position) first = i;
  return changes.slice(first).flatMap((change) => (change.since <= position ? [change.value] : []));
}

/**
 * Mostly one table page; sometimes two, used on both sides of their boundary; sometimes a disk that outgrows the room
 * of its directory.
 */
export function randomShape(random: SeededRandom): DiskShape {
  const blockSize = random.pick([64, 64, 64, 128]) * KiB;
  const compression = random.pick(['zstd', 'deflate', 'none']);
  const provisioning = random.oneIn(8) ? 'lazy' : 'thin';
  const odd = random.oneIn(2) ? SECTOR * random.below(256) : 0;
  const common = { blockSize, compression, provisioning };
  switch (random.below(8)) {
    case 0:
    case 1: {
      const table = TABLE_BLOCKS * blockSize;
      return { ...common, provisioning: 'thin', ...around(table, table + 256 * KiB + odd) };
    }
    case 2:
      return { ...common, provisioning: 'thin', ...around(GiB, 40 * GiB + odd), size: GiB + 128 * KiB };
    default: {
      const sizeMax = 640 * KiB + odd;
      const size = random.oneIn(2) ? sizeMax : sizeMax - SECTOR * random.below(512);
      return { ...common, size, sizeMax, windows: [{ offset: 0, length: sizeMax }] };
    }
  }
}

/** A disk that is used at its start and around one place. */
function around(place: number, sizeMax: number): Pick<DiskShape, 'size' | 'sizeMax' | 'windows'> {
  const from = place - 192 * KiB;
  const windows = [
    { offset: 0, length: 384 * KiB },
    { offset: from, length: Math.min(448 * KiB, sizeMax - from) },
  ];
  return { size: sizeMax, sizeMax, windows };
}

export function creationOptions(shape: DiskShape): Record<string, string | number> {
  const { blockSize, compression, provisioning } = shape;
  return { block_size: blockSize, journal_size: 128 * KiB, compression, provisioning };
}

export interface Parent {
  readonly file: MemoryDevice;
  /** Word that a sector of it shows through its child. */
  readonly word: (sector: number) => number;
}

/** A parent with data in random places; longer or shorter than its child. */
export async function makeParent(random: SeededRandom, shape: DiskShape): Promise<Parent> {
  const file = MemoryDevice.create(0, { name: 'parent' });
  const size = random.pick([shape.size, shape.sizeMax, 256 * KiB + SECTOR * random.below(128)]);
  await createVvd(file, { virtualSize: size, options: creationOptions(shape), gate: closedGate });
  const disk = await openDisk(file, undefined);
  const words = new Map<number, number>();
  const history = new SectorHistory(
    () => 0,
    () => 0,
    PARENT_VERSIONS,
  );
  for (let i = 0; i < 10; i++) {
    const window = random.pick(shape.windows);
    const offset = window.offset + random.below(window.length / SECTOR) * SECTOR;
    if (offset >= size) continue;
    const data = new Uint8Array(Math.min(size - offset, (1 + random.below(200)) * SECTOR));
    history.write(offset, data);
    await disk.pwrite(data, offset);
    const found = new Uint32Array(data.buffer);
    for (let at = 0; at < data.length; at += SECTOR)
      words.set((offset + at) / SECTOR, found[at / 4] as number);
  }
  await disk.close();
  // what the child adds when it grows reads as zeroes, whatever the parent holds there
  return { file, word: (sector) => (sector * SECTOR < shape.size ? (words.get(sector) ?? 0) : 0) };
}

/** Opens a disk, on its parent where it has one. */
export async function openDisk(
  file: BlockDevice,
  parent: MemoryDevice | undefined,
  readOnly = false,
): Promise<DiskImage> {
  const layers = [await openVvd(file, { readOnly, gate: closedGate })];
  if (parent) layers.push(await openVvd(parent, { readOnly: true, gate: closedGate }));
  return new DiskImage('memory', layers);
}
