/**
 * A VVD disk behind our server and our client against the model disk: operations of several devices under way at once,
 * each with several connections, on files that complete them in any order; lines that are cut; sizes that change.
 */
import { strictEqual } from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { isVimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { DiskImage } from '../../src/image/disk-image.ts';
import { NbdDevice } from '../../src/nbd/client/nbd-device.ts';
import { exportDisk } from '../../src/nbd/export.ts';
import { NbdServer } from '../../src/nbd/server.ts';
import { type ModelDisk, patterned, ShuffleDevice, sameBytes } from '../../src/testing/index.ts';
import { type ChainPlace, datastoreForTests, IN_MEMORY } from './chain-place.ts';
import { CutLine } from './cut-line.ts';
import { makeChain, openChain, removeChain, type VvdChain } from './vvd-chain.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const BLOCK = 64 * KiB;
const DEVICES = 2;
const EFFORT = Number(process.env['VIMG_MODEL_EFFORT'] ?? 1);

interface Held {
  readonly offset: number;
  readonly end: number;
  readonly isRead: boolean;
  readonly done: Promise<void>;
}

/** The disk, its server, the line to it, and devices at its end. */
class Bench {
  readonly model: ModelDisk;
  readonly random: SeededRandom;
  readonly #disk: DiskImage;
  readonly #server: NbdServer;
  readonly #line: CutLine;
  readonly #uri: string;
  #devices: NbdDevice[] = [];
  readonly #underWay = new Set<Held>();

  private constructor(
    random: SeededRandom,
    model: ModelDisk,
    disk: DiskImage,
    server: NbdServer,
    line: CutLine,
    uri: string,
  ) {
    this.random = random;
    this.model = model;
    this.#disk = disk;
    this.#server = server;
    this.#line = line;
    this.#uri = uri;
  }

  static async set(folder: string, random: SeededRandom, { files, model }: VvdChain): Promise<Bench> {
    const disk = await openChain(
      files,
      (file) => new ShuffleDevice(file, random.nextU32(), { sameTickOneIn: random.pick([0, 2, 5]) }),
    );
    const socketPath = join(folder, 'server.sock');
    const server = await NbdServer.listen({ socketPath }, { exports: [exportDisk(disk, '')] });
    const line = await CutLine.lay(join(folder, 'line.sock'), socketPath);
    const uri = `nbd+unix:///?socket=${encodeURIComponent(join(folder, 'line.sock'))}`;
    const bench = new Bench(random, model, disk, server, line, uri);
    await bench.connect();
    return bench;
  }

  get device(): NbdDevice {
    return this.random.pick(this.#devices);
  }

  async connect(): Promise<void> {
    const requests = this.random.pick([1, 4, 64]); // few: more connections
    for (let i = 0; i < DEVICES; i++) {
      const device = await NbdDevice.open(this.#uri, { readOnly: false, limits: { requests } });
      strictEqual(device.size, this.model.size, 'size that a new connection is told');
      this.#devices.push(device);
    }
  }

  async disconnect(): Promise<void> {
    await this.quiet();
    for (const device of this.#devices.splice(0)) await device.close();
  }

  async quiet(): Promise<void> {
    await Promise.all([...this.#underWay].map((held) => held.done));
  }

  async compare(): Promise<void> {
    await this.quiet();
    await this.model.compare(this.device);
  }

  range(): { offset: number; length: number } {
    const { model, random } = this;
    const near = random.oneIn(2) ? random.below(model.size) : random.below(4) * BLOCK;
    const offset = Math.min(model.size - 1, near);
    const most = random.oneIn(8) ? 2 * MiB : random.oneIn(3) ? 3 * BLOCK : 6000;
    return { offset, length: Math.min(model.size - offset, 1 + random.below(most)) };
  }

  /** Starts one operation on a range that no other has; waits for one when there are too many. */
  async step(most: number): Promise<void> {
    while (this.#underWay.size >= most) await Promise.race([...this.#underWay].map((held) => held.done));
    const { model, random, device } = this;
    const { offset, length } = this.range();
    switch (random.below(10)) {
      case 0:
      case 1:
        return this.#start(offset, length, false, async () => {
          model.zero(offset, length);
          await device.writeZeroes(offset, length, { keepAllocated: random.oneIn(2) });
        });
      case 2:
        return this.#start(offset, length, false, async () => {
          model.discard(offset, length);
          await device.discard(offset, length);
        });
      case 3:
      case 4:
      case 5:
        return this.#start(offset, length, true, () => this.readBack(device, offset, length));
      case 6:
        return this.#start(0, 0, true, async () => device.flush());
      default: {
        const data = patterned(length, random.below(255));
        return this.#start(offset, length, false, async () => {
          model.write(offset, data);
          await device.pwrite(data, offset);
          data.fill(0xee); // the device must be done with it
        });
      }
    }
  }

  async readBack(device: NbdDevice, offset: number, length: number): Promise<void> {
    const expected = this.model.content.slice(offset, offset + length);
    const found = new Uint8Array(length).fill(0xdd);
    await device.pread(found, offset);
    sameBytes(found, expected, `read of ${length} at ${offset}`);
  }

  #start(offset: number, length: number, isRead: boolean, work: () => Promise<void>): void {
    const end = offset + length;
    for (const held of this.#underWay) {
      if (held.offset < end && offset < held.end && !(isRead && held.isRead)) return;
    }
    const done = work().finally(() => this.#underWay.delete(held));
    const held: Held = { offset, end, isRead, done };
    this.#underWay.add(held);
  }

  /** Everything is flushed, and only reads are under way: nobody sees that the line was cut. */
  async cutWhileReading(): Promise<void> {
    await this.quiet();
    for (const device of this.#devices) await device.flush();
    const reads = Promise.all(
      Array.from({ length: 8 }, () => {
        const { offset, length } = this.range();
        return this.readBack(this.device, offset, length);
      }),
    );
    await sleep(this.random.below(3));
    await this.#line.cut();
    await reads;
  }

  /** Writes under way may be done or not, each byte; those before are. The devices fail for good. */
  async cutWhileWriting(): Promise<void> {
    await this.quiet();
    const { random, model, device } = this;
    const acknowledged = patterned(100, random.below(255));
    await device.pwrite(acknowledged, 0);
    model.write(0, acknowledged);
    const writes = Array.from({ length: 4 }, (_, index) => {
      const offset = 1000 + index * BLOCK;
      return { offset, data: patterned(1 + random.below(BLOCK / 2), random.below(255)) };
    }).filter(({ offset, data }) => offset + data.length <= model.size);
    const work = Promise.allSettled(writes.map(({ offset, data }) => device.pwrite(data, offset)));
    await sleep(random.below(2));
    await this.#line.cut();
    await work;
    await expect(async () => device.pread(new Uint8Array(1), 0)).rejects.toSatisfy((error) =>
      isVimgError(error, 'IO'),
    );
    await this.#reconcile(writes);
  }

  async #reconcile(writes: readonly { offset: number; data: Uint8Array }[]): Promise<void> {
    for (const device of this.#devices.splice(0)) await device.close();
    while (this.#server.clients > 0) await sleep(1);
    await this.#disk.exclusively(async () => undefined); // what the server had begun is done
    await this.connect();
    for (const { offset, data } of writes) {
      const found = new Uint8Array(data.length);
      await this.device.pread(found, offset);
      const old = this.model.content.subarray(offset, offset + data.length);
      const isEither = found.every((byte, at) => byte === data[at] || byte === old[at]);
      strictEqual(isEither, true, `a lost write at ${offset} left what was never there`);
      this.model.write(offset, found);
    }
    await this.model.compare(this.device);
  }

  /** Told to new connections; one that was there keeps the size it knows, and works where that still is. */
  async resize(): Promise<void> {
    await this.quiet();
    const { random, model } = this;
    const before = await NbdDevice.open(this.#uri, { readOnly: false });
    const size = 512 * (1024 + random.below(6000));
    const common = Math.min(size, before.size);
    await this.disconnect();
    await this.#disk.resize(size);
    model.resize(size);
    await this.connect();
    await this.readBack(before, 0, common);
    if (size > before.size) strictEqual(before.size < this.device.size, true);
    else if (size < before.size) {
      await expect(before.pread(new Uint8Array(1), size)).rejects.toSatisfy((error) => isVimgError(error));
      await this.readBack(before, 0, common);
    }
    await before.close();
    await model.compare(this.device);
  }

  async end(): Promise<void> {
    await this.disconnect();
    await this.#line.close();
    await this.#server.close();
    await this.model.compare(this.#disk);
    await this.#disk.close();
  }
}

async function run(seed: number, folder: string, place: ChainPlace): Promise<void> {
  const random = new SeededRandom(seed);
  const sizes = Array.from({ length: random.pick([1, 2, 3]) }, () => 512 * (2048 + random.below(5000)));
  const options = { journal_size: 128 * KiB };
  const chain = await makeChain({ seed, blockSize: BLOCK, sizes, options }, place);
  const bench = await Bench.set(folder, random, chain);
  for (let session = 0; session < 3; session++) {
    const most = random.pick([2, 8, 40]);
    for (let i = 0; i < 120; i++) {
      await bench.step(most);
      if (random.oneIn(50)) await bench.compare();
      if (random.oneIn(30)) await bench.cutWhileReading();
      if (random.oneIn(40)) await bench.cutWhileWriting();
    }
    await bench.compare();
    await bench.resize();
  }
  await bench.end();
  const again = await openChain(chain.files);
  await chain.model.compare(again);
  await again.close();
  await removeChain(chain.files);
}

function runInFolder(seed: number, place: ChainPlace): Promise<void> {
  return withDir(({ path }) => run(seed, path, place), { unsafeCleanup: true, prefix: 'vimg-model-nbd' });
}

const seeds = (count: number): number[] => Array.from({ length: count * EFFORT }, (_, i) => i);

describe('a disk over NBD does what the model does', () => {
  it.each(seeds(10))('seed %i', (seed) => runInFolder(seed, IN_MEMORY));
});

describe('a disk of a datastore on a LUN over NBD does what the model does', () => {
  const place = datastoreForTests();
  it.each(seeds(2))('seed %i', (seed) => runInFolder(seed, place));
});
