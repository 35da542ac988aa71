/** Snapshots, growing and attributes of disks that are open and written meanwhile. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { vvdLifecycle } from '../../formats/vvd/lifecycle.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { relocateChain } from '../../src/image/chain.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { changeOpenAttributes, snapshotOpenDisks } from '../../src/image/open-disks.ts';
import { createSnapshot, listSnapshots } from '../../src/image/snapshot.ts';

const MiB = 1024 * 1024;
const SIZE = 4 * MiB;
const BLOCK = 4096;
let folder: string;
let cleanup: () => Promise<void>;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-open-snapshot-' });
  folder = made.path;
  cleanup = made.cleanup;
});
afterEach(() => cleanup());

async function openNew(name: string, blocking = true): Promise<DiskImage> {
  const path = join(folder, name);
  await createImage(path, { formats, format: 'vvd', size: SIZE });
  return DiskImage.open(path, { formats, readOnly: false, blocking });
}

async function content(path: string, snapshot?: string): Promise<Uint8Array> {
  await using disk = await DiskImage.open(path, { formats, snapshot });
  const bytes = new Uint8Array(disk.size);
  await disk.pread(bytes, 0);
  return bytes;
}

async function isSound(path: string): Promise<boolean> {
  await using disk = await DiskImage.open(path, { formats });
  const { findings } = (await formats.get('vvd').check?.(disk.top.file, {})) ?? { findings: [] };
  return findings.length === 0;
}

/** Counters that several writers raise, each in blocks of its own: block `i` holds how often it was written. */
class Writers {
  readonly acknowledged: Float64Array = new Float64Array(SIZE / BLOCK);
  readonly started: Float64Array = new Float64Array(SIZE / BLOCK);
  #stopped = false;
  readonly #running: Promise<void>[];

  constructor(disk: DiskImage, random: SeededRandom, count = 8) {
    this.#running = Array.from({ length: count }, (_, which) => this.#run(disk, random, which, count));
  }

  async #run(disk: DiskImage, random: SeededRandom, which: number, count: number): Promise<void> {
    while (!this.#stopped) {
      const block = random.below(SIZE / BLOCK / count) * count + which;
      const value = (this.started[block] as number) + 1;
      this.started[block] = value;
      const data = new Float64Array(BLOCK / 8).fill(value);
      await disk.pwrite(new Uint8Array(data.buffer), block * BLOCK);
      this.acknowledged[block] = value;
      if (random.below(10) === 0) await disk.flush();
      if (random.below(4) === 0) await delay(0);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }
}

function counters(bytes: Uint8Array): Float64Array {
  const all = new Float64Array(bytes.buffer);
  return Float64Array.from({ length: SIZE / BLOCK }, (_, block) => {
    const first = all[(block * BLOCK) / 8] as number;
    for (let at = 1; at < BLOCK / 8; at++) if (all[(block * BLOCK) / 8 + at] !== first) return Number.NaN;
    return first;
  });
}

describe('a snapshot of an open disk', () => {
  it('holds what was acknowledged before, and nothing that was begun after', async () => {
    const disk = await openNew('disk.vvd', false);
    const writers = new Writers(disk, new SeededRandom(7));
    const moments: { before: Float64Array; after: Float64Array }[] = [];
    for (let i = 0; i < 4; i++) {
      await delay(20);
      const before = writers.acknowledged.slice();
      await snapshotOpenDisks([disk], [], `s${i}`, formats);
      moments.push({ before, after: writers.started.slice() });
    }
    await delay(20);
    await writers.stop();
    const last = writers.acknowledged.slice();
    const now = new Uint8Array(SIZE);
    await disk.pread(now, 0);
    expect(counters(now)).toEqual(last);
    expect(disk.layers).toHaveLength(5);
    await disk.close();
    for (const [i, { before, after }] of moments.entries()) {
      const kept = counters(await content(disk.path, `s${i}`));
      const wrong = kept.filter(
        (value, block) => !(value >= (before[block] as number) && value <= (after[block] as number)),
      );
      expect(wrong).toHaveLength(0);
    }
    expect(counters(await content(disk.path))).toEqual(last);
    expect((await listSnapshots(disk.path, { formats })).map(({ name }) => name)).toEqual([
      's0',
      's1',
      's2',
      's3',
    ]);
    expect(await isSound(disk.path)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(
      ['disk.vvd', ...[0, 1, 2, 3].map((i) => `disk@s${i}.vvd`)].sort(),
    );
  });

  it('keeps the disk locked all the while', async () => {
    const disk = await openNew('disk.vvd');
    let taken = false;
    const intruder = (async () => {
      while (!taken) {
        await expect(
          DiskImage.open(disk.path, { formats, readOnly: false }).then((open) => open.close()),
        ).rejects.toMatchObject({ code: 'LOCKED' });
      }
    })();
    for (let i = 0; i < 3; i++) await snapshotOpenDisks([disk], [], `s${i}`, formats);
    taken = true;
    await intruder;
    await disk.close();
  });

  it('lets others read the layer at once', async () => {
    const disk = await openNew('disk.vvd');
    await disk.pwrite(Buffer.from('kept'), 0);
    await snapshotOpenDisks([disk], [], 'one', formats);
    await disk.pwrite(Buffer.from('lost'), 0);
    expect(Buffer.from((await content(join(folder, 'disk@one.vvd'))).subarray(0, 4)).toString()).toBe('kept');
    await disk.close();
  });

  it('is taken of several disks at one instant, open or not', async () => {
    const [a, b] = [await openNew('a.vvd'), await openNew('b.vvd')];
    await (await openNew('c.vvd')).close();
    let running = true;
    const pairs = (async () => {
      // b never runs ahead of a
      for (let value = 1; running; value++) {
        const data = new Uint8Array(new Float64Array(BLOCK / 8).fill(value).buffer);
        await a.pwrite(data, 0);
        await b.pwrite(data, 0);
        await delay(0);
      }
    })();
    await delay(20);
    await snapshotOpenDisks([a, b], [join(folder, 'c.vvd')], 'all', formats);
    running = false;
    await pairs;
    await a.close();
    await b.close();
    const [inA, inB] = [
      counters(await content(a.path, 'all'))[0] as number,
      counters(await content(b.path, 'all'))[0] as number,
    ];
    expect(inA - inB === 0 || inA - inB === 1).toBe(true);
    for (const name of ['a', 'b', 'c']) expect(existsSync(join(folder, `${name}@all.vvd`))).toBe(true);
    expect(readdirSync(folder).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('is taken of all disks or of none', async () => {
    const [a, b] = [await openNew('a.vvd'), await openNew('b.vvd')];
    await a.pwrite(Buffer.from('written'), 0);
    await snapshotOpenDisks([b], [], 'taken', formats);
    await expect(snapshotOpenDisks([a, b], [], 'taken', formats)).rejects.toMatchObject({ code: 'EXISTS' });
    const other = await openNew('c.vvd');
    await expect(snapshotOpenDisks([a], [other.path], 'x', formats)).rejects.toMatchObject({
      code: 'LOCKED',
    });
    expect(readdirSync(folder).sort()).toEqual(['a.vvd', 'b.vvd', 'b@taken.vvd', 'c.vvd']);
    await a.pwrite(Buffer.from('more'), 100);
    await Promise.all([a, b, other].map((disk) => disk.close()));
    expect(Buffer.from((await content(a.path)).subarray(100, 104)).toString()).toBe('more');
  });

  it('that fails when its time has come leaves the disk as it was, and writable', async () => {
    const disk = await openNew('disk.vvd');
    await disk.pwrite(Buffer.from('before'), 0);
    const tops = [{ path: disk.path, layer: disk.top, blocking: true }];
    const staged = await vvdLifecycle.open.stageSnapshot(tops, [], 'one');
    // the name of the layer is taken meanwhile
    await createImage(join(folder, 'disk@one.vvd'), { formats, format: 'vvd', size: MiB });
    await disk.exclusively(() => expect(staged.take()).rejects.toMatchObject({ code: 'EXISTS' }));
    disk.setLayers(disk.layers);
    await disk.pwrite(Buffer.from('after'), 1000);
    await disk.flush();
    await snapshotOpenDisks([disk], [], 'two', formats);
    await disk.pwrite(Buffer.from('later'), 2000);
    await disk.close();
    const now = Buffer.from(await content(disk.path));
    expect([
      now.toString('latin1', 0, 6),
      now.toString('latin1', 1000, 1005),
      now.toString('latin1', 2000, 2005),
    ]).toEqual(['before', 'after', 'later']);
    expect(readdirSync(folder).sort()).toEqual(['disk.vvd', 'disk@one.vvd', 'disk@two.vvd']);
    expect(await isSound(disk.path)).toBe(true);
  });

  it('flushes while writes go on, until a flush was short or it has tried often enough', async () => {
    const disk = await openNew('disk.vvd');
    const flush = disk.flush.bind(disk);
    let flushes = 0;
    disk.flush = async () => {
      flushes++;
      await disk.pwrite(Buffer.from('late'), flushes * BLOCK); // the disk does not stand still yet
      await delay(30);
      await flush();
    };
    await snapshotOpenDisks([disk], [], 'slow', formats);
    expect(flushes).toBe(8);
    disk.flush = flush;
    await disk.close();
    const kept = Buffer.from(await content(disk.path, 'slow'));
    expect(kept.toString('latin1', 8 * BLOCK, 8 * BLOCK + 4)).toBe('late');
  });

  it('does not make children of an unwritten disk stale', async () => {
    const disk = await openNew('disk.vvd');
    const child = join(folder, 'child.vvd');
    await disk.close();
    await createImage(child, { formats, format: 'vvd', backing: { path: 'disk.vvd', format: 'vvd' } });
    const again = await DiskImage.open(disk.path, { formats, readOnly: false });
    await snapshotOpenDisks([again], [], 'one', formats);
    await again.pwrite(Buffer.from('x'), 0);
    await again.close();
    await relocateChain(child, [folder], { formats });
    expect((await content(child))[0]).toBe(0);
  });

  it('refuses a disk that is open for reading', async () => {
    await (await openNew('disk.vvd')).close();
    await using disk = await DiskImage.open(join(folder, 'disk.vvd'), { formats });
    await expect(snapshotOpenDisks([disk], [], 'one', formats)).rejects.toMatchObject({ code: 'READ_ONLY' });
  });
});

describe('an open disk', () => {
  it('gets attributes, and keeps them over a snapshot and a crash', async () => {
    const disk = await openNew('disk.vvd');
    await disk.pwrite(Buffer.from('data'), 0);
    await changeOpenAttributes(disk, new Map([['label', 'web']]), formats);
    await changeOpenAttributes(disk, new Map([['x-owner', 'ops']]), formats);
    await snapshotOpenDisks([disk], [], 'one', formats);
    await changeOpenAttributes(disk, new Map([['x-owner', undefined]]), formats);
    const listed = await vvdLifecycle.readAttributes(disk.path);
    expect([listed.get('label'), listed.get('x-owner')]).toEqual(['web', undefined]);
    await expect(changeOpenAttributes(disk, new Map([['nonsense', '1']]), formats)).rejects.toMatchObject({
      code: 'USAGE',
    });
    await disk.pwrite(Buffer.from('more'), 0);
    await disk.close();
    expect((await vvdLifecycle.readAttributes(join(folder, 'disk@one.vvd'))).get('x-owner')).toBe('ops');
    expect(await isSound(disk.path)).toBe(true);
  });

  it('grows between its snapshots', async () => {
    const disk = await openNew('disk.vvd');
    await snapshotOpenDisks([disk], [], 'small', formats);
    await disk.resize(2 * SIZE);
    await disk.pwrite(Buffer.from('new'), SIZE + 5);
    await snapshotOpenDisks([disk], [], 'large', formats);
    expect(disk.size).toBe(2 * SIZE);
    await disk.close();
    await createSnapshot([disk.path], 'offline', { formats });
    expect((await content(disk.path, 'small')).length).toBe(SIZE);
    expect(Buffer.from((await content(disk.path, 'large')).subarray(SIZE + 5, SIZE + 8)).toString()).toBe(
      'new',
    );
  });
});
