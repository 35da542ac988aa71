/**
 * A process that uses a volume through another one, which is killed again and again: what was answered is there, flushed
 * or not, and the volume is sound.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VimgError } from '../../src/base/errors.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import type { DatastoreEntry } from '../../src/storage/configuration-schema.ts';
import { runtimeFolder } from '../../src/storage/runtime-folder.ts';
import { vimsDriver } from '../../src/storage/vims-driver.ts';
import { checkVolume } from '../../src/storage/volume-check.ts';
import {
  createVolumeDatastore,
  openVolumeDatastore,
  volumeLockPath,
} from '../../src/storage/volume-datastore.ts';
import { makeLunFile } from '../../src/storage/volume-devices.ts';
import { VolumePlace } from '../../src/storage/volume-place.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const access = { driver: vimsDriver };

let folder: DirectoryResult;
let entry: DatastoreEntry;
let owner: ChildProcess | undefined;
let places: VolumePlace[];

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-takeover-' });
  const lun = join(folder.path, 'lun');
  await makeLunFile(lun, 256 * MiB);
  entry = await createVolumeDatastore(
    'ds1',
    [lun],
    access,
    { VIMG_CONFIG: join(folder.path, 'config') },
    false,
  );
  owner = undefined;
  places = [];
});
afterEach(async () => {
  for (const place of places) await place.close();
  owner?.kill('SIGKILL');
  await folder.cleanup();
});

const DIST = pathToFileURL(resolve(import.meta.dirname, '../../dist/src')).href;
const OWNER = `
  const [dist, entry] = process.argv.slice(1);
  const { openVolumeDatastore } = await import(dist + '/storage/volume-datastore.js');
  const { vimsDriver } = await import(dist + '/storage/vims-driver.js');
  const datastore = await openVolumeDatastore(JSON.parse(entry), { driver: vimsDriver });
  await datastore.capacity();
  process.stdout.write('ready');
  setInterval(() => {}, 1000);
`;

/** A process that attaches the volume, and does nothing with it itself. */
async function newOwner(): Promise<void> {
  const args = ['--input-type=module', '-e', OWNER, DIST, JSON.stringify(entry)];
  owner = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(owner.stdout as NodeJS.ReadableStream, 'data');
}

async function killOwner(): Promise<void> {
  const ended = once(owner as ChildProcess, 'exit');
  owner?.kill('SIGKILL');
  await ended;
}

/** One who uses the volume, but never attaches it. */
async function client(): Promise<VolumePlace> {
  const lockPath = await volumeLockPath(entry);
  const place = new VolumePlace({
    lockPath,
    socketPath: join(await runtimeFolder(), `${entry.uuid}.sock`),
    attach: () => Promise.reject(new VimgError('LOCKED', 'This one never does', { path: lockPath })),
  });
  places.push(place);
  return place;
}

/** A file, and what it must hold. */
class Twin {
  readonly file: DiskFile;
  content: Buffer;
  readonly #random: SeededRandom;

  constructor(file: DiskFile, size: number, random: SeededRandom) {
    this.file = file;
    this.content = Buffer.alloc(size);
    this.#random = random;
  }

  /** One change, or a flush. */
  async step(): Promise<void> {
    const random = this.#random;
    const offset = random.below(this.content.length - 1);
    const length = 1 + random.below(Math.min(300 * KiB, this.content.length - offset));
    switch (random.below(8)) {
      case 0:
        await this.file.flush();
        return;
      case 1:
        await this.file.writeZeroes(offset, length);
        this.content.fill(0, offset, offset + length);
        return;
      case 2: {
        const size = this.content.length + random.below(100 * KiB);
        await this.file.resize(size);
        this.content = Buffer.concat([this.content, Buffer.alloc(size - this.content.length)]);
        return;
      }
      default: {
        const bytes = Buffer.alloc(length, 1 + random.below(255));
        await this.file.pwrite(bytes, offset);
        bytes.copy(this.content, offset);
      }
    }
  }

  async judge(file: DiskFile = this.file): Promise<void> {
    expect(file.size).toBe(this.content.length);
    const found = Buffer.alloc(file.size);
    await file.pread(found, 0);
    expect(found.equals(this.content), file.name).toBe(true);
  }
}

async function afterwards(twins: readonly Twin[]): Promise<void> {
  await killOwner();
  const datastore = await openVolumeDatastore(entry, access);
  for (const twin of twins) {
    const file = await datastore.files.open(twin.file.name, { readOnly: true, lock: 'read' });
    await twin.judge(file);
    await file.close();
  }
  await datastore.close();
  const { findings } = await checkVolume(entry, access, { signal: new AbortController().signal });
  expect(findings).toEqual([]);
}

describe('when the process that has the volume is killed', () => {
  it('files hold what was answered, flushed or not', async () => {
    const random = new SeededRandom(4);
    await newOwner();
    const place = await client();
    const twins: Twin[] = [];
    for (const name of ['a', 'b', 'c']) {
      const file = await place.open(`ds1:${name}`, { create: 'exclusive', lock: 'write' });
      await file.resize(2 * MiB);
      twins.push(new Twin(file, 2 * MiB, random));
    }
    for (let kills = 0; kills < 8; kills++) {
      let running = true;
      const work = twins.map(async (twin) => {
        while (running) await twin.step();
      });
      await new Promise((done) => setTimeout(done, 5 + random.below(60)));
      await killOwner(); // with changes under way
      if (kills % 2 === 0) await killSoon();
      await newOwner();
      running = false;
      await Promise.all(work);
      for (const twin of twins) await twin.judge();
    }
    for (const { file } of twins) {
      await file.flush();
      await file.close();
    }
    await afterwards(twins);
  }, 60_000);

  /** Kills the next owner, too, while files are opened again there. */
  async function killSoon(): Promise<void> {
    await newOwner();
    await killOwner();
  }

  it('what is kept until it is durable is bounded', async () => {
    await newOwner();
    const place = await client();
    const file = await place.open('ds1:a', { create: 'exclusive', lock: 'write' });
    const twin = new Twin(file, 0, new SeededRandom(5));
    const piece = Buffer.alloc(MiB);
    const before = process.memoryUsage().arrayBuffers;
    for (let at = 0; at < 160; at++) {
      piece.fill(1 + (at % 250));
      await file.pwrite(piece, at * MiB);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100 * MiB);
    twin.content = Buffer.concat(Array.from({ length: 160 }, (_, at) => Buffer.alloc(MiB, 1 + (at % 250))));
    await killOwner();
    await newOwner();
    await twin.judge();
    await file.flush();
    await file.close();
    await afterwards([twin]);
  }, 60_000);

  it('nothing is written again by who has no lock', async () => {
    await newOwner();
    const place = await client();
    const file = await place.open('ds1:a', { create: 'exclusive' });
    await file.pwrite(Buffer.from('kept'), 0);
    await file.flush();
    await file.pwrite(Buffer.from('LOST'), 0);
    await killOwner();
    await newOwner();
    const failure = { code: 'IO', hint: expect.stringMatching(/what was flushed is there/) };
    await expect((async () => file.pread(Buffer.alloc(1), 0))()).rejects.toMatchObject(failure);
    await expect((async () => file.flush())()).rejects.toMatchObject(failure);
    await file.close();
  });

  it('a change of names that was not answered was done, or is done again', async () => {
    const random = new SeededRandom(6);
    await newOwner();
    const place = await client();
    await (await place.open('ds1:0', { create: 'exclusive' })).close();
    let name = 0;
    for (let kills = 0; kills < 6; kills++) {
      let running = true;
      const work = (async () => {
        while (running) {
          await place.rename(`ds1:${name}`, `ds1:${++name}`);
          await place.link(`ds1:${name}`, 'ds1:second');
          await place.remove('ds1:second');
        }
      })();
      await new Promise((done) => setTimeout(done, random.below(40)));
      await killOwner();
      await newOwner();
      running = false;
      await work;
      expect(await place.list('ds1:')).toEqual([String(name)]);
    }
  }, 60_000);
});
