/** A day of use of a datastore, on a simulated LUN. The same seed gives the same day. */
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { copyInPlace, listFolder, openFile, removeFile } from '../../src/device/files.ts';
import { mountFiles } from '../../src/device/mounts.ts';
import {
  createImage,
  DiskImage,
  deleteOpenSnapshot,
  linkedClone,
  snapshotForClone,
  snapshotOpenDisks,
} from '../../src/image/index.ts';
import { LockTable } from '../../src/storage/lock-table.ts';
import { LockingFiles, Turns } from '../../src/storage/locking-files.ts';
import { ownLockOwner } from '../../src/storage/place-client.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { GiB } from '../work.ts';
import { Guest } from './guest.ts';
import { database, fileServer, fill, type Machine, recorder } from './machines.ts';

const HOUR = 60;
const MINUTES: number = 24 * HOUR;
/** For so much of the volume each machine has a turn in a minute. */
const TURN_EACH: number = 16 * GiB;
/** Parts of the volume that are used, by night and by day. */
const NIGHT = 0.65;
const BUSY = 0.9;
/** So much that nothing fails for want of space. */
const FULL = 0.93;

const PLACE = 'day';

interface Running {
  readonly path: string;
  readonly disk: BlockDevice;
  readonly machine: Machine;
}

interface Filling {
  readonly path: string;
  readonly file: BlockDevice;
  readonly work: AsyncGenerator<void>;
}

/** What a day was like. */
export interface DaySpent {
  /** Parts of the volume that were used, at least and at most. */
  readonly lowest: number;
  readonly highest: number;
  /** Names of disks that were written at random while they shared clusters with an instant copy that was, too. */
  readonly copied: readonly string[];
}

export class Day {
  readonly #volume: VimsVolume;
  /** Bytes. */
  readonly #size: number;
  readonly #random: SeededRandom;
  readonly #running: Running[] = [];
  #filling: Filling[] = [];
  /** Files that go when space is wanted, the oldest first. */
  readonly #batch: string[] = [];
  #made = 0;
  readonly #copied: string[] = [];
  #highest = 0;
  #lowest = 1;

  private constructor(volume: VimsVolume, size: number, seed: number) {
    this.#volume = volume;
    this.#size = size;
    this.#random = new SeededRandom(seed);
  }

  /** Spends a day on a new volume, and leaves that in order. */
  static async spend(lun: BlockDevice, seed: number): Promise<DaySpent> {
    await formatVolume([lun]);
    const volume = await VimsVolume.attach(PLACE, [lun]);
    const unmount = mountFiles(
      PLACE,
      new LockingFiles(volume.files, new LockTable(), new Turns(), ownLockOwner()),
    );
    const day = new Day(volume, lun.size, seed);
    await day.#begin();
    while ((await day.#used()) < NIGHT) await day.#turn(0);
    for (let minute = 0; minute < MINUTES; minute++) await day.#minute(minute);
    await day.#end();
    unmount();
    await volume.detach();
    return { lowest: day.#lowest, highest: day.#highest, copied: day.#copied };
  }

  get #disks(): DiskImage[] {
    return this.#running.flatMap(({ disk }) => (disk instanceof DiskImage ? [disk] : []));
  }

  async #begin(): Promise<void> {
    const share = this.#size / 64;
    for (const format of ['raw', 'vvd'] as const) {
      for (let i = 0; i < 4; i++) {
        await this.#start(format, 'files', 3 * share, (guest) =>
          fileServer(guest, 0.5 + i / 10, i % 2 === 0),
        );
      }
      for (let i = 0; i < 3; i++) await this.#start(format, 'data', 2 * share, (guest) => database(guest));
      for (let i = 0; i < 2; i++) await this.#start(format, 'log', share, (guest) => recorder(guest));
    }
    await this.#start('vvd', 'golden', 2 * share, (guest) => fileServer(guest, 0.8, false));
  }

  async #start(
    format: 'raw' | 'vvd',
    kind: string,
    size: number,
    machineOf: (guest: Guest) => Machine,
  ): Promise<void> {
    const path = `${PLACE}:${kind}-${this.#made++}.${format}`;
    await createImage(path, { formats, format, size });
    await this.#open(path, format, size, machineOf);
  }

  async #open(
    path: string,
    format: 'raw' | 'vvd',
    size: number,
    machineOf: (guest: Guest) => Machine,
  ): Promise<void> {
    const disk =
      format === 'raw' ? await openFile(path, {}) : await DiskImage.open(path, { formats, readOnly: false });
    const guest = new Guest(disk, size, new SeededRandom(this.#random.nextU32()));
    this.#running.push({ path, disk, machine: machineOf(guest) });
  }

  async #minute(minute: number): Promise<void> {
    for (let turn = 0; turn < this.#size / TURN_EACH; turn++) await this.#turn(minute / MINUTES);
    await this.#volume.files.syncFolder(`${PLACE}:`);
    await this.#keepSpace(minute);
    if (minute % (4 * HOUR) === HOUR) for (const { machine } of this.#running) await machine.guest.trim();
    await this.#plan(minute);
  }

  async #turn(time: number): Promise<void> {
    await Promise.all(this.#running.map(({ machine }) => machine.turn(time)));
    await Promise.all(this.#filling.map((each) => this.#fillOn(each)));
    if (this.#filling.length === 0 && (await this.#used()) < NIGHT) await this.#fillNew();
  }

  async #fillOn({ file, work, path }: Filling): Promise<void> {
    for (let i = 0; i < 4; i++) {
      const { done } = await work.next();
      if (done !== true) continue;
      this.#filling = this.#filling.filter((other) => other.file !== file);
      await file.close();
      this.#batch.push(path);
      return;
    }
  }

  /** Makes batch disks while there is room, and removes the oldest of them when there is not. */
  async #keepSpace(minute: number): Promise<void> {
    const isBusy = minute > 9 * HOUR && minute < 17 * HOUR;
    let used = await this.#used();
    this.#highest = Math.max(this.#highest, used);
    this.#lowest = Math.min(this.#lowest, used);
    const wanted = isBusy ? BUSY : NIGHT;
    if (used < wanted && this.#filling.length < (isBusy ? 3 : 1)) await this.#fillNew();
    while (used > (isBusy ? FULL : NIGHT + 0.05) && this.#batch.length > 0) {
      await removeFile(this.#batch.shift() as string);
      await this.#volume.files.syncFolder(`${PLACE}:`);
      used = await this.#used();
    }
  }

  async #used(): Promise<number> {
    const { capacity, used } = await this.#volume.capacity();
    return used / capacity;
  }

  /** A batch job, or the copy of a disk by reading and writing. */
  async #fillNew(): Promise<void> {
    const { disk: source } = this.#random.pick(this.#running.filter(({ path }) => !/desk|copy/.test(path)));
    const copies = this.#random.oneIn(3);
    const path = `${PLACE}:batch-${this.#made++}.raw`;
    const file = await openFile(path, { create: 'exclusive' });
    const size = copies ? source.size : ((1 + this.#random.below(4)) * this.#size) / 256;
    this.#filling.push({ path, file, work: fill(file, size, copies ? source : undefined) });
  }

  async #plan(minute: number): Promise<void> {
    if (minute % (8 * HOUR) === 10) await snapshotOpenDisks(this.#disks, [], `at-${minute}`, formats);
    if (minute % (8 * HOUR) === 2 * HOUR) {
      for (const disk of this.#disks.filter(({ path }) => !path.includes('desk')))
        await deleteOpenSnapshot(disk, `at-${minute - 2 * HOUR + 10}`, formats);
    }
    if (minute === 7 * HOUR + 30) await this.#cloneDesks();
    if (minute === 12 * HOUR) await this.#copyDisks();
    if (minute === 18 * HOUR) await this.#stopAll(/copy/);
    if (minute === 19 * HOUR) await this.#stopAll(/desk/);
  }

  async #cloneDesks(): Promise<void> {
    const golden = this.#running.find(({ path }) => path.includes('golden')) as Running;
    const size = golden.disk.size;
    await snapshotForClone(golden.disk as DiskImage, 'base', `${PLACE}:desk-0.vvd`, formats);
    for (let i = 0; i < 8; i++) {
      const path = `${PLACE}:desk-${i}.vvd`;
      await linkedClone(golden.path, path, { formats, snapshot: 'base' });
      await this.#open(path, 'vvd', size, (guest) => fileServer(guest, 0.4, true));
    }
  }

  /** Instant copies of raw disks: both go on, and share what neither of them has written since. */
  async #copyDisks(): Promise<void> {
    for (const kind of ['files', 'data']) {
      const { path, disk } = this.#running.find((each) =>
        each.path.startsWith(`${PLACE}:${kind}`),
      ) as Running;
      const copy = path.replace('.raw', '-copy.raw');
      await copyInPlace(path, copy);
      await this.#open(copy, 'raw', disk.size, (guest) => database(guest));
      this.#copied.push(path.slice(PLACE.length + 1));
    }
  }

  async #stopAll(which: RegExp): Promise<void> {
    for (const running of this.#running.filter(({ path }) => which.test(path))) {
      this.#running.splice(this.#running.indexOf(running), 1);
      await running.disk.close();
      // with its snapshots
      const name = running.path.slice(PLACE.length + 1).replace(/\.[^.]*$/, '');
      for (const file of await listFolder(`${PLACE}:`)) {
        if (file.startsWith(`${name}.`) || file.startsWith(`${name}@`)) await removeFile(`${PLACE}:${file}`);
      }
    }
  }

  async #end(): Promise<void> {
    for (const { file } of this.#filling) await file.close();
    for (const { disk } of this.#running) await disk.close();
  }
}
