/** Snapshots, clones, deletion and sealing on real files. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdir, open as openFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { vvdLifecycle } from '../../../formats/vvd/lifecycle.ts';
import { SeededRandom } from '../../../src/base/random.ts';
import { chainOf, relocateChain } from '../../../src/image/chain.ts';
import { linkedClone } from '../../../src/image/clone.ts';
import { createImage } from '../../../src/image/create-image.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import {
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
  revertSnapshot,
} from '../../../src/image/snapshot.ts';

const MiB = 1024 * 1024;
const SIZE = 8 * MiB;
const context = { formats };
let folder: string;
let cleanup: () => Promise<void>;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-snapshot-' });
  folder = made.path;
  cleanup = made.cleanup;
});
afterEach(() => cleanup());

const at = (name: string): string => join(folder, name);

async function create(name: string, size = SIZE): Promise<string> {
  await createImage(at(name), { formats, format: 'vvd', size });
  return at(name);
}

async function write(path: string, offset: number, data: Uint8Array): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  await disk.pwrite(data, offset);
  await disk.close();
}

async function read(path: string, snapshot?: string): Promise<Uint8Array> {
  const disk = await DiskImage.open(path, { formats, snapshot });
  try {
    const all = new Uint8Array(disk.size);
    await disk.pread(all, 0);
    return all;
  } finally {
    await disk.close();
  }
}

/** Writes a few random runs into the disk and the model. */
async function scribble(path: string, model: Uint8Array, random: SeededRandom): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  for (let i = 0; i < 12; i++) {
    const offset = random.below(model.length - 300_000);
    const data = random.fill(new Uint8Array(1 + random.below(random.oneIn(3) ? 300_000 : 5_000)));
    if (random.oneIn(4)) {
      await disk.writeZeroes(offset, data.length);
      model.fill(0, offset, offset + data.length);
    } else {
      await disk.pwrite(data, offset);
      model.set(data, offset);
    }
  }
  await disk.close();
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

describe('snapshots of a VVD disk', () => {
  it('keeps the past, lists it, reverts to it', async () => {
    const random = new SeededRandom(7);
    const disk = await create('disk.vvd');
    const model = new Uint8Array(SIZE);
    await scribble(disk, model, random);
    const past = model.slice();
    await createSnapshot([disk], 'before', context);
    expect(existsSync(at('disk@before.vvd'))).toBe(true);
    await scribble(disk, model, random);
    expect(same(await read(disk), model)).toBe(true);
    expect(same(await read(disk, 'before'), past)).toBe(true);
    expect((await listSnapshots(disk, context)).map((snapshot) => snapshot.name)).toEqual(['before']);
    await revertSnapshot(disk, 'before', context);
    expect(same(await read(disk), past)).toBe(true);
  });

  it.each([1, 2, 3, 4])(
    'deletes snapshots in any order without changing what is read (seed %i)',
    async (seed) => {
      const random = new SeededRandom(seed);
      const disk = await create('disk.vvd');
      const model = new Uint8Array(SIZE);
      const kept = new Map<string, Uint8Array>();
      for (const name of ['s1', 's2', 's3', 's4']) {
        await scribble(disk, model, random);
        await createSnapshot([disk], name, context);
        kept.set(name, model.slice());
      }
      await scribble(disk, model, random);
      while (kept.size > 0) {
        const name = random.pick([...kept.keys()]);
        await deleteSnapshot(disk, name, context);
        kept.delete(name);
        expect(same(await read(disk), model)).toBe(true);
        for (const [other, past] of kept) expect(same(await read(disk, other), past)).toBe(true);
      }
      expect(readdirSync(folder)).toEqual(['disk.vvd']);
      await scribble(disk, model, random);
      expect(same(await read(disk), model)).toBe(true);
    },
  );

  it('takes several disks or none', async () => {
    const a = await create('a.vvd');
    const b = await create('b.vvd');
    writeFileSync(at('b@s.vvd'), 'in the way');
    await expect(createSnapshot([a, b], 's', context)).rejects.toMatchObject({ code: 'EXISTS' });
    expect(readdirSync(folder).sort()).toEqual(['a.vvd', 'b.vvd', 'b@s.vvd']);
    await write(a, 0, new Uint8Array([1]));
    await createSnapshot([a, b], 't', context);
    expect(
      readdirSync(folder)
        .filter((name) => name.includes('@t'))
        .sort(),
    ).toEqual(['a@t.vvd', 'b@t.vvd']);
    expect(readdirSync(folder).some((name) => name.startsWith('.'))).toBe(false);
    await write(a, 0, new Uint8Array([2]));
    await write(b, 0, new Uint8Array([3]));
  });
});

describe('linked clones', () => {
  it('leaves the source writable, both on a sealed base', async () => {
    const random = new SeededRandom(3);
    const disk = await create('disk.vvd');
    const model = new Uint8Array(SIZE);
    await scribble(disk, model, random);
    await linkedClone(disk, at('clone.vvd'), context);
    const ofClone = model.slice();
    await scribble(disk, model, random);
    await scribble(at('clone.vvd'), ofClone, random);
    expect(same(await read(disk), model)).toBe(true);
    expect(same(await read(at('clone.vvd')), ofClone)).toBe(true);
    const [base] = await listSnapshots(disk, context);
    await expect(deleteSnapshot(disk, base?.name ?? '', context)).rejects.toMatchObject({ code: 'LOCKED' });
  });

  it('refuses a base that was changed behind the clone', async () => {
    const disk = await create('disk.vvd');
    await createSnapshot([disk], 's', context);
    await linkedClone(disk, at('clone.vvd'), { ...context, snapshot: 's' });
    await vvdLifecycle.unseal(at('disk@s.vvd'), true);
    await write(at('disk@s.vvd'), 0, new Uint8Array(512).fill(9));
    await expect(read(at('clone.vvd'))).rejects.toMatchObject({ code: 'STALE_PARENT' });
    const links = await chainOf(at('clone.vvd'), context);
    expect(links.map((link) => link.state)).toEqual(['ok', 'stale']);
  });

  it('opens after all files moved together, and is repaired when they scattered', async () => {
    const disk = await create('disk.vvd');
    await write(disk, 4096, new Uint8Array(4096).fill(5));
    await createSnapshot([disk], 's', context);
    await mkdir(at('elsewhere'));
    await mkdir(at('far/away'), { recursive: true });
    await rename(disk, at('elsewhere/renamed.vvd'));
    await rename(at('disk@s.vvd'), at('elsewhere/base.vvd'));
    expect((await read(at('elsewhere/renamed.vvd')))[4096]).toBe(5);
    await rename(at('elsewhere/base.vvd'), at('far/away/base.vvd'));
    await expect(read(at('elsewhere/renamed.vvd'))).rejects.toMatchObject({ code: 'STALE_PARENT' });
    await relocateChain(at('elsewhere/renamed.vvd'), [at('far')], context);
    expect((await read(at('elsewhere/renamed.vvd')))[4096]).toBe(5);
  });
});

describe('sealed layers', () => {
  it('finds a flipped bit in data when it is read', async () => {
    const disk = await create('disk.vvd');
    await write(disk, 0, new Uint8Array(MiB).fill(0x5a));
    await vvdLifecycle.seal(disk, {});
    await expect(DiskImage.open(disk, { formats, readOnly: false })).rejects.toMatchObject({
      code: 'READ_ONLY',
    });
    expect((await read(disk))[MiB - 1]).toBe(0x5a);
    const handle = await openFile(disk, 'r+');
    const sealed = await DiskImage.open(disk, { formats });
    const place = (await sealed.mapAt(0, 4096)).fileOffset ?? 0;
    await sealed.close();
    await handle.write(new Uint8Array([0x5b]), 0, 1, place + 70_000);
    await handle.close();
    await expect(read(disk)).rejects.toMatchObject({ code: 'CORRUPT' });
    await vvdLifecycle.unseal(disk, false);
    await write(disk, 0, new Uint8Array([1]));
  });

  it('keeps attributes over snapshots', async () => {
    const disk = await create('disk.vvd');
    await vvdLifecycle.changeAttributes(
      disk,
      new Map([
        ['label', 'root'],
        ['x-owner', 'ana'],
        ['shared', 'true'],
      ]),
    );
    await createSnapshot([disk], 's', context);
    const attributes = await vvdLifecycle.readAttributes(disk);
    expect(Object.fromEntries(attributes)).toMatchObject({ label: 'root', 'x-owner': 'ana', shared: true });
  });
});
