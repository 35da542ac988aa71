/**
 * Deleting snapshots of a disk that is open and written meanwhile, and clones of such a disk. See also
 * open-delete-behind.test.ts and open-delete-failure.test.ts.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { vvdLifecycle } from '../../formats/vvd/lifecycle.ts';
import { SeededRandom } from '../../src/base/random.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { linkedClone } from '../../src/image/clone.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { deleteOpenSnapshot, snapshotForClone, snapshotOpenDisks } from '../../src/image/open-disks.ts';
import { deleteSnapshot } from '../../src/image/snapshot.ts';
import { resizeImage } from '../../src/index.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 8 * MiB;
let folder: string;
let cleanup: () => Promise<void>;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-open-delete-' });
  folder = made.path;
  cleanup = made.cleanup;
});
afterEach(() => cleanup());

async function openNew(name: string, size = SIZE): Promise<DiskImage> {
  const path = join(folder, name);
  await createImage(path, { formats, format: 'vvd', size });
  return DiskImage.open(path, { formats, readOnly: false, blocking: false });
}

function snapshot(disk: DiskImage, name: string): Promise<number> {
  return snapshotOpenDisks([disk], [], name, formats);
}

async function content(path: string): Promise<Buffer> {
  await using disk = await DiskImage.open(path, { formats });
  const bytes = Buffer.alloc(disk.size);
  await disk.pread(bytes, 0);
  return bytes;
}

async function findings(path: string): Promise<readonly unknown[]> {
  await using disk = await DiskImage.open(path, { formats });
  return (await formats.get('vvd').check?.(disk.top.file, {}))?.findings ?? [];
}

/** A guest: writes, zeroes and trims anywhere, reads what it wrote, and knows what its disk holds. */
class Guest {
  readonly model: Buffer;
  stopped = false;
  readonly #disk: DiskImage;
  readonly #random: SeededRandom;

  constructor(disk: DiskImage, random: SeededRandom, model: Buffer) {
    this.#disk = disk;
    this.#random = random;
    this.model = model;
  }

  /** Changes one range after the other, in a part of the disk that is its own. */
  async run(from: number, length: number): Promise<number> {
    let changes = 0;
    for (; !this.stopped; changes++) {
      const at = from + this.#random.below(length - 20 * KiB);
      const size = 1 + this.#random.below(20 * KiB);
      const kind = this.#random.below(8);
      if (kind === 0) {
        await this.#disk.writeZeroes(at, size);
        this.model.fill(0, at, at + size);
      } else if (kind === 1) {
        const seen = Buffer.alloc(size);
        await this.#disk.pread(seen, at);
        expect(seen.equals(this.model.subarray(at, at + size))).toBe(true);
      } else {
        const data = Buffer.alloc(size, changes & 0xff);
        await this.#disk.pwrite(data, at);
        data.copy(this.model, at);
      }
      if (this.#random.below(10) === 0) await this.#disk.flush();
      if (this.#random.below(3) === 0) await delay(0);
    }
    return changes;
  }
}

/** Answers reads turns of the event loop later: whoever may come between a read and what follows it, does. */
function readLate(file: BlockDevice): void {
  const pread = file.pread.bind(file);
  file.pread = async (buffer, offset) => {
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    await pread(buffer, offset);
  };
}

async function fill(disk: DiskImage, random: SeededRandom, model: Buffer, writes: number): Promise<void> {
  for (let i = 0; i < writes; i++) {
    const size = 1 + random.below(40 * KiB);
    const at = random.below(disk.size - size);
    const data = Buffer.alloc(size, random.below(256));
    await disk.pwrite(data, at);
    data.copy(model, at);
  }
}

describe('deleting the newest snapshot of an open disk', () => {
  it.each([1, 2, 3, 4, 5, 6])('loses nothing that a guest writes meanwhile (seed %i)', async (seed) => {
    const random = new SeededRandom(seed);
    const disk = await openNew('disk.vvd');
    const model = Buffer.alloc(SIZE);
    for (const name of ['one', 'two']) {
      await fill(disk, random, model, 60);
      await snapshot(disk, name);
    }
    await fill(disk, random, model, 10);
    for (const layer of disk.layers.slice(1)) readLate(layer.file);
    const guest = new Guest(disk, random, model);
    const parts = [0, 1, 2, 3].map((part) => guest.run((part * SIZE) / 4, SIZE / 4));
    const plan = await deleteOpenSnapshot(disk, 'two', formats);
    expect(plan.way).toBe('down');
    expect(existsSync(join(folder, 'disk@two.vvd'))).toBe(false);
    await delay(5);
    await deleteOpenSnapshot(disk, 'one', formats);
    expect(disk.layers).toHaveLength(1);
    await delay(5);
    guest.stopped = true;
    for (const changes of await Promise.all(parts)) expect(changes).toBeGreaterThan(0);
    const now = Buffer.alloc(SIZE);
    await disk.pread(now, 0);
    expect(now.equals(model)).toBe(true);
    await snapshot(disk, 'later'); // the disk is one as every other
    await disk.close();
    expect((await content(disk.path)).equals(model)).toBe(true);
    expect(await findings(disk.path)).toEqual([]);
    expect(readdirSync(folder).sort()).toEqual(['disk.vvd', 'disk@later.vvd']);
  });

  it('can be cancelled, and done again, open or not; a crash in between changes nothing', async () => {
    const random = new SeededRandom(3);
    const disk = await openNew('disk.vvd');
    const model = Buffer.alloc(SIZE);
    await fill(disk, random, model, 100);
    await snapshot(disk, 'one');
    await fill(disk, random, model, 10);
    const controller = new AbortController();
    const cancelled = deleteOpenSnapshot(disk, 'one', formats, {
      signal: controller.signal,
      onProgress: (done) => {
        if (done > MiB) controller.abort();
      },
    });
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    await disk.flush();
    const crashed = join(folder, 'crashed');
    mkdirSync(crashed);
    for (const name of ['disk.vvd', 'disk@one.vvd']) copyFileSync(join(folder, name), join(crashed, name));
    const revived = join(crashed, 'disk.vvd');
    expect((await content(revived)).equals(model)).toBe(true);
    await deleteSnapshot(revived, 'one', { formats });
    expect((await content(revived)).equals(model)).toBe(true);
    expect(await findings(revived)).toEqual([]);
    expect((await content(join(folder, 'disk@one.vvd'))).length).toBe(SIZE); // others may read it again
    await deleteOpenSnapshot(disk, 'one', formats);
    await disk.close();
    expect((await content(disk.path)).equals(model)).toBe(true);
  });

  it('keeps hidden what lies behind the end of a snapshot that was smaller', async () => {
    const disk = await openNew('disk.vvd');
    await disk.pwrite(Buffer.alloc(SIZE, 'old'), 0);
    await snapshot(disk, 'large');
    await disk.close();
    await resizeImage(disk.path, SIZE / 2, { shrink: true });
    const small = await DiskImage.open(disk.path, { formats, readOnly: false });
    await small.pwrite(Buffer.from('kept'), 100);
    await snapshot(small, 'small');
    await small.resize(SIZE);
    const before = Buffer.alloc(SIZE);
    await small.pread(before, 0);
    expect(before.subarray(SIZE / 2).every((byte) => byte === 0)).toBe(true);
    await deleteOpenSnapshot(small, 'small', formats);
    await small.close();
    expect((await content(disk.path)).equals(before)).toBe(true);
  });

  it('copies around larger sub-blocks what the layers further behind hold', async () => {
    const base = await openNew('base.vvd');
    await base.pwrite(Buffer.alloc(SIZE, 'deep'), 0);
    await snapshot(base, 'deep');
    await base.pwrite(Buffer.alloc(100, 'mid'), 3 * MiB + 5000);
    await snapshot(base, 'mid');
    await base.close();
    const path = join(folder, 'clone.vvd');
    await linkedClone(base.path, path, { formats, snapshot: 'mid', options: { block_size: 4 * MiB } });
    await vvdLifecycle.revertSnapshot(base.path, 'deep');
    const expected = await content(path);
    const clone = await DiskImage.open(path, { formats, readOnly: false });
    await deleteOpenSnapshot(clone, 'mid', formats);
    await clone.close();
    expect((await content(path)).equals(expected)).toBe(true);
  });

  it('tells the plan, and does nothing', async () => {
    await using disk = await openNew('disk.vvd');
    await disk.pwrite(Buffer.alloc(10_000, 'x'), 0);
    await snapshot(disk, 'one');
    const plan = await deleteOpenSnapshot(disk, 'one', formats, { planOnly: true });
    expect(plan).toEqual({ snapshot: 'one', way: 'down', bytes: 12 * KiB, freed: expect.any(Number) });
    expect(plan.freed).toBeGreaterThanOrEqual(12 * KiB);
    expect(disk.layers).toHaveLength(2);
  });
});

describe('deleting a snapshot of an open disk is refused', () => {
  it('when there is none of that name', async () => {
    await using disk = await openNew('disk.vvd');
    await snapshot(disk, 'one');
    await expect(deleteOpenSnapshot(disk, 'three', formats)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('while someone reads it, and while a clone stands on it', async () => {
    await using disk = await openNew('disk.vvd');
    await disk.pwrite(Buffer.from('data'), 0);
    await snapshot(disk, 'one');
    const reader = await DiskImage.open(join(folder, 'disk@one.vvd'), { formats });
    await expect(deleteOpenSnapshot(disk, 'one', formats)).rejects.toMatchObject({ code: 'LOCKED' });
    await reader.close();
    const clone = join(folder, 'clone.vvd');
    await linkedClone(disk.path, clone, { formats, snapshot: 'one' });
    await expect(deleteOpenSnapshot(disk, 'one', formats)).rejects.toMatchObject({ code: 'LOCKED' });
    expect(disk.layers).toHaveLength(2);
    expect((await content(clone)).toString('latin1', 0, 4)).toBe('data');
  });

  it('in a disk that is open for reading', async () => {
    await (await openNew('disk.vvd')).close();
    await using disk = await DiskImage.open(join(folder, 'disk.vvd'), { formats });
    await expect(deleteOpenSnapshot(disk, 'one', formats)).rejects.toMatchObject({ code: 'READ_ONLY' });
  });
});

it('a snapshot that nothing stands on goes while the disk is open', async () => {
  const disk = await openNew('disk.vvd');
  await snapshot(disk, 'one');
  await snapshot(disk, 'two');
  await disk.close();
  await vvdLifecycle.revertSnapshot(disk.path, 'one');
  await using again = await DiskImage.open(disk.path, { formats, readOnly: false });
  expect((await deleteOpenSnapshot(again, 'two', formats)).way).toBe('unlink');
  expect(readdirSync(folder).sort()).toEqual(['disk.vvd', 'disk@one.vvd']);
});

it('a clone of an open disk, in another folder, is known to its base', async () => {
  await using disk = await openNew('disk.vvd');
  await disk.pwrite(Buffer.from('data'), 0);
  mkdirSync(join(folder, 'sub'));
  const clone = join(folder, 'sub', 'clone.vvd');
  await snapshotForClone(disk, 'base', clone, formats);
  await linkedClone(disk.path, clone, { formats, snapshot: 'base' });
  await disk.pwrite(Buffer.from('more'), 0);
  expect((await content(clone)).toString('latin1', 0, 4)).toBe('data');
  expect(await vvdLifecycle.standingOn(join(folder, 'disk@base.vvd'))).toContain(clone);
  await expect(deleteOpenSnapshot(disk, 'base', formats)).rejects.toMatchObject({ code: 'LOCKED' });
  expect((await vvdLifecycle.readAttributes(disk.path)).has('clones')).toBe(false);
});
