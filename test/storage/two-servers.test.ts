/**
 * Two processes serve disks of one volume, and commands work beside them; the one that has the volume attached ends, in
 * order or by kill -9. The guest of the other one notices nothing.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import type { DiskImage } from '../../src/image/disk-image.ts';
import { openImage } from '../../src/index.ts';
import { type ServedDisk, VolumePrograms } from './volume-programs.ts';

const KiB = 1024;
const SIZE = 8 * KiB * KiB;

let programs: VolumePrograms;

beforeEach(async () => {
  programs = await VolumePrograms.make('256M');
  for (const name of ['a', 'b']) await programs.vimg('create', '-q', `ds1:${name}.vvd`, String(SIZE));
});
afterEach(() => programs.close());

/** One who uses a served disk: writes at random, and seldom flushes, until it is told to stop. */
class Guest {
  readonly served: ServedDisk;
  readonly #disk: DiskImage;
  readonly #random: SeededRandom;
  readonly #content = Buffer.alloc(SIZE);
  #stopping = false;
  #work: Promise<void> | undefined;
  #writes = 0;

  private constructor(served: ServedDisk, disk: DiskImage, seed: number) {
    this.served = served;
    this.#disk = disk;
    this.#random = new SeededRandom(seed);
  }

  /** Serves the disk, attaches it, and reads what is on it. */
  static async boot(disk: string, seed: number): Promise<Guest> {
    const served = await programs.serve(disk);
    const guest = new Guest(served, await openImage(served.uri, { readOnly: false, format: 'raw' }), seed);
    await guest.#disk.pread(guest.#content, 0);
    return guest;
  }

  start(): void {
    this.#stopping = false;
    this.#work = this.#run();
    this.#work.catch(() => undefined); // told by `stop`, if anybody asks
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#work;
  }

  async writesOn(): Promise<void> {
    for (const before = this.#writes; this.#writes < before + 100; ) {
      await Promise.race([delay(5), this.#work]);
    }
  }

  async judge(): Promise<void> {
    const found = Buffer.alloc(SIZE);
    await this.#disk.pread(found, 0);
    expect(found.equals(this.#content)).toBe(true);
  }

  async shutDown(): Promise<void> {
    await this.#disk.close();
    expect(await this.served.end()).toBe(0);
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const offset = this.#random.below(SIZE - 1);
      const length = Math.min(1 + this.#random.below(64 * KiB), SIZE - offset);
      const bytes = Buffer.alloc(length, 1 + this.#random.below(255));
      await this.#disk.pwrite(bytes, offset);
      bytes.copy(this.#content, offset);
      if (++this.#writes % 50 === 0) await this.#disk.flush();
    }
  }
}

describe('two servers on one volume', () => {
  it('a guest works on, whatever becomes of the server that has the volume attached', async () => {
    const random = new SeededRandom(2);
    const disks = ['ds1:a.vvd', 'ds1:b.vvd'];
    let seed = 0;
    const guests = [await Guest.boot('ds1:a.vvd', ++seed), await Guest.boot('ds1:b.vvd', ++seed)];
    for (let round = 0; round < 3; round++) {
      // the one that was booted last is never the one that has the volume
      const [ends, stays] = [guests[round % 2], guests[(round + 1) % 2]] as [Guest, Guest];
      for (const guest of guests) guest.start();
      await delay(20 + random.below(100));
      const signal = random.below(4) === 0 ? 'SIGTERM' : 'SIGKILL';
      expect(await ends.served.end(signal)).toBe(signal === 'SIGTERM' ? 0 : signal);
      await stays.writesOn();
      expect(await programs.vimg('datastore', 'df', 'ds1')).toContain('ds1');
      expect(await programs.vimg('ls', 'ds1:')).toBe('a.vvd\nb.vvd\n');
      await stays.stop();
      await stays.judge();
      await ends.stop().catch(() => undefined); // its server has ended
      guests[round % 2] = await Guest.boot(disks[round % 2] as string, ++seed);
    }
    for (const guest of guests) await guest.shutDown();
    expect(await programs.vimg('datastore', 'check', 'ds1')).toMatch(
      /^ds1: sound\n(ds1:[ab]\.vvd: sound\n){2}2 disks checked\n$/,
    );
  }, 60_000);

  it('are asked by other processes for what is done with their disks', async () => {
    const other = await programs.serve('ds1:a.vvd');
    const guest = await Guest.boot('ds1:b.vvd', 1);
    guest.start();
    await programs.vimg('snapshot', '-c', 'one', 'ds1:b.vvd');
    await programs.vimg('snapshot', '-c', 'two', 'ds1:b.vvd');
    expect(await other.end('SIGKILL')).toBe('SIGKILL');
    await programs.vimg('snapshot', '-d', 'two', 'ds1:b.vvd');
    await programs.vimg('clone', 'ds1:b.vvd@one', 'ds1:c.vvd');
    await programs.vimg('resize', 'ds1:b.vvd', '+1M');
    await programs.vimg('attr', 'ds1:b.vvd', 'label=b');
    expect(await programs.vimg('snapshot', 'ds1:b.vvd')).toMatch(/one/);
    expect(JSON.parse(await programs.vimg('lock', 'ls', '--output=json', 'ds1'))).toMatchObject(
      expect.arrayContaining([expect.objectContaining({ path: 'ds1:b.vvd', pid: guest.served.child.pid })]),
    );
    await guest.writesOn();
    await guest.stop();
    await guest.judge();
    await guest.shutDown();
    expect(await programs.vimg('datastore', 'check', 'ds1')).toMatch(/^ds1: sound\n(ds1:.*: sound\n){4}/);
    expect(await programs.vimg('info', 'ds1:b.vvd')).toMatch(/9437184 bytes/);
  }, 60_000);
});
