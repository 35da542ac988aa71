/**
 * The library as its users have it: the built package, by its own name. What the functions under it do is tested
 * where they are; here: defaults, refusals, and that every part is connected.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import {
  type BlockDevice,
  type ConvertResult,
  chainOf,
  changeAttributes,
  checkImage,
  cloneImage,
  compareImages,
  convertImage,
  createImage,
  createSnapshot,
  type DiskImage,
  deleteSnapshot,
  diskUsage,
  type ErrorCode,
  formats,
  imageInfo,
  isVimgError,
  judgeImage,
  listSnapshots,
  type MapExtent,
  type MaybePromise,
  mapImage,
  measureImage,
  openImage,
  type ProgressReport,
  planDeleteSnapshot,
  readAttributes,
  relocateChain,
  resizeImage,
  revertSnapshot,
  sealImage,
  unsealImage,
  VimgError,
} from 'vimg';
import { FaultDevice, MemoryDevice } from 'vimg/device';
import { FormatRegistry } from 'vimg/image';
import { afterEach, beforeEach, describe, expect, expectTypeOf, it } from 'vitest';

const MiB = 1024 * 1024;
let folder: string;
let cleanup: () => Promise<void>;

beforeEach(async () => {
  ({ path: folder, cleanup } = await dir({ unsafeCleanup: true, prefix: 'vimg-library-' }));
});
afterEach(() => cleanup());

const at = (name: string): string => join(folder, name);

async function put(path: string, text: string, offset = 0): Promise<void> {
  const disk = await openImage(path, { readOnly: false });
  try {
    await disk.pwrite(Buffer.from(text), offset);
  } finally {
    await disk.close();
  }
}

async function get(path: string, length: number, offset = 0, snapshot?: string): Promise<string> {
  const disk = await openImage(path, snapshot === undefined ? {} : { snapshot });
  try {
    const buffer = Buffer.alloc(length);
    await disk.pread(buffer, offset);
    return buffer.toString('latin1');
  } finally {
    await disk.close();
  }
}

/** The code with which `work` fails. */
async function codeOf(work: Promise<unknown>): Promise<ErrorCode | undefined> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return isVimgError(error) ? error.code : undefined;
}

describe('disks', () => {
  it('are created, written, flushed and read again', async () => {
    await createImage(at('disk.vvd'), { size: 8 * MiB });
    const disk = await openImage(at('disk.vvd'), { readOnly: false });
    await disk.pwrite(Buffer.from('hello'), 3 * MiB);
    await disk.flush();
    await disk.close();
    await disk.close();
    expect(await get(at('disk.vvd'), 7, 3 * MiB - 1)).toBe('\0hello\0');
  });

  it('take their format from the ending, else vvd', async () => {
    for (const [name, format] of [
      ['a.qcow2', 'qcow2'],
      ['b.raw', 'raw'],
      ['c.img', 'raw'],
      ['d', 'vvd'],
    ]) {
      await createImage(at(name as string), { size: MiB });
      expect((await imageInfo(at(name as string))).format).toBe(format);
    }
  });

  it('are not replaced unless that was asked for', async () => {
    await createImage(at('disk.vvd'), { size: MiB });
    expect(await codeOf(createImage(at('disk.vvd'), { size: MiB }))).toBe('EXISTS');
    expect(await codeOf(convertImage(at('disk.vvd'), at('disk.vvd')))).toBe('EXISTS');
    await createImage(at('disk.vvd'), { size: 2 * MiB, overwrite: true });
    expect((await imageInfo(at('disk.vvd')))['virtual-size']).toBe(2 * MiB);
  });

  it('take the options of their format, and no others', async () => {
    await createImage(at('disk.vvd'), { size: MiB, options: { block_size: '1M', provisioning: 'lazy' } });
    expect((await imageInfo(at('disk.vvd')))['cluster-size']).toBe(MiB);
    const make = (options: Record<string, string | number | boolean>): Promise<void> =>
      createImage(at('other.vvd'), { size: MiB, options });
    expect(await codeOf(make({ blocksize: MiB }))).toBe('USAGE');
    expect(await codeOf(make({ provisioning: 'fat' }))).toBe('USAGE');
    expect(await codeOf(make({ block_size: true }))).toBe('USAGE');
    expect(await codeOf(make({ block_size: '1 MB' }))).toBe('USAGE');
    expect(readdirSync(folder)).toEqual(['disk.vvd']);
  });

  it('stand on a backing disk, whose format must be certain', async () => {
    await createImage(at('base.qcow2'), { size: 4 * MiB });
    await createImage(at('top.vvd'), { backing: { path: 'base.qcow2' } });
    const info = await imageInfo(at('top.vvd'));
    expect(info['backing-filename-format']).toBe('qcow2');
    expect(info['virtual-size']).toBe(4 * MiB);
    writeFileSync(at('unknown'), Buffer.alloc(MiB));
    expect(await codeOf(createImage(at('new.vvd'), { backing: { path: 'unknown' } }))).toBe('USAGE');
    await createImage(at('new.vvd'), { backing: { path: 'unknown', format: 'raw' } });
  });

  it('are opened for writing only when their format is certain', async () => {
    writeFileSync(at('unknown'), Buffer.alloc(MiB));
    expect(await codeOf(openImage(at('unknown'), { readOnly: false }))).toBe('USAGE');
    const disk = await openImage(at('unknown'), { readOnly: false, format: 'raw' });
    await disk.close();
    await createImage(at('real.vvd'), { size: MiB });
    copyFileSync(at('real.vvd'), at('guest.raw'));
    expect(await codeOf(openImage(at('guest.raw'), { readOnly: false }))).toBe('USAGE');
  });

  it('are read-only unless told otherwise, and locked while they are written', async () => {
    await createImage(at('disk.vvd'), { size: MiB });
    const reader = await openImage(at('disk.vvd'));
    expect(reader.readOnly).toBe(true);
    expect(() => reader.pwrite(Buffer.alloc(512), 0)).toThrowError(VimgError);
    await reader.close();
    const writer = await openImage(at('disk.vvd'), { readOnly: false });
    expect(await codeOf(openImage(at('disk.vvd')))).toBe('LOCKED');
    await (await openImage(at('disk.vvd'), { lock: false })).close();
    await writer.close();
  });

  it('grow, and shrink when that was asked for', async () => {
    await createImage(at('disk.vvd'), { size: 4 * MiB });
    await resizeImage(at('disk.vvd'), 8 * MiB);
    expect(await codeOf(resizeImage(at('disk.vvd'), MiB))).toBe('USAGE');
    expect(await codeOf(resizeImage(at('disk.vvd'), 1000))).toBe('USAGE');
    await resizeImage(at('disk.vvd'), MiB, { shrink: true });
    expect((await imageInfo(at('disk.vvd')))['virtual-size']).toBe(MiB);
  });

  it('lead to no file outside their folder, unless it is allowed', async () => {
    mkdirSync(at('inside'));
    mkdirSync(at('outside'));
    await createImage(at('outside/base.qcow2'), { size: MiB });
    const backing = { path: '../outside/base.qcow2', format: 'qcow2' };
    await createImage(at('inside/top.qcow2'), { backing });
    expect(await codeOf(openImage(at('inside/top.qcow2')))).toBe('UNSUPPORTED');
    await (await openImage(at('inside/top.qcow2'), { allow: [at('outside')] })).close();
    await (await openImage(at('inside/top.qcow2'), { allowAny: true })).close();
  });

  it('know the formats they are given', async () => {
    const onlyRaw = new FormatRegistry([formats.get('raw')]);
    await createImage(at('disk.vvd'), { size: MiB });
    const info = await imageInfo(at('disk.vvd'), { formats: onlyRaw });
    expect([info.format, info['format-guessed']]).toEqual(['raw', true]);
  });
});

describe('copies', () => {
  it('convert in any direction, and compare', async () => {
    await createImage(at('a.vvd'), { size: 6 * MiB });
    await put(at('a.vvd'), 'some data', 2 * MiB);
    const reports: ProgressReport[] = [];
    const result = await convertImage(at('a.vvd'), at('b.qcow2'), {
      compress: true,
      onProgress: (report) => reports.push(report),
    });
    expect(result.virtualSize).toBe(6 * MiB);
    expect(reports.at(-1)).toMatchObject({ phase: 'done', fraction: 1 });
    await convertImage(at('b.qcow2'), at('c.raw'));
    expect(await compareImages(at('a.vvd'), at('c.raw'))).toEqual({ identical: true, sizesDiffer: false });
    await put(at('c.raw'), 'other', 4 * MiB + 700);
    expect(await compareImages(at('a.vvd'), at('c.raw'))).toMatchObject({
      identical: false,
      difference: 'content',
      offset: 4 * MiB + 512,
    });
  });

  it('join several sources, and take any device', async () => {
    await createImage(at('first.vvd'), { size: MiB });
    await put(at('first.vvd'), 'first');
    const memory = MemoryDevice.create(MiB);
    memory.pwrite(Buffer.from('second'), 0);
    await convertImage([at('first.vvd'), memory], at('both.qcow2'), { options: { cluster_size: '4k' } });
    expect(await get(at('both.qcow2'), 6, MiB)).toBe('second');
    expect((await imageInfo(at('both.qcow2')))['cluster-size']).toBe(4096);
  });

  it('leave nothing behind when they are cancelled or fail', async () => {
    await createImage(at('a.vvd'), { size: MiB });
    const signal = AbortSignal.abort();
    expect(await codeOf(convertImage(at('a.vvd'), at('b.vvd'), { signal }))).toBe('CANCELLED');
    const broken = new FaultDevice(MemoryDevice.from(Buffer.alloc(MiB, 1)), [{ on: 'read' }]);
    expect(await codeOf(convertImage(broken, at('b.vvd')))).toBe('IO');
    expect(readdirSync(folder)).toEqual(['a.vvd']);
  });

  it('write into an existing disk, and seal a new one', async () => {
    await createImage(at('a.vvd'), { size: MiB });
    await put(at('a.vvd'), 'data');
    await createImage(at('large.vvd'), { size: 4 * MiB });
    await convertImage(at('a.vvd'), at('large.vvd'), { existing: true });
    expect(await get(at('large.vvd'), 4)).toBe('data');
    await convertImage(at('a.vvd'), at('golden.vvd'), { seal: true });
    expect(await codeOf(openImage(at('golden.vvd'), { readOnly: false }))).toBe('READ_ONLY');
  });

  it('are measured before they are made', async () => {
    await createImage(at('a.vvd'), { size: 64 * MiB });
    await put(at('a.vvd'), 'data');
    const { required, fullyAllocated } = await measureImage(at('a.vvd'), { format: 'qcow2' });
    expect(required).toBeLessThan(MiB);
    expect(fullyAllocated).toBeGreaterThan(64 * MiB);
    expect((await measureImage(MiB)).required).toBe(MiB);
  });
});

describe('looking at disks', () => {
  it('maps them, with neighbours merged, and closes what it opened', async () => {
    await createImage(at('a.vvd'), { size: 4 * MiB });
    const disk = await openImage(at('a.vvd'), { readOnly: false });
    await disk.pwrite(Buffer.alloc(MiB, 1), MiB);
    const kinds: [number, number, boolean][] = [];
    for await (const { offset, length, data } of mapImage(disk)) kinds.push([offset, length, data]);
    expect(kinds).toEqual([
      [0, MiB, false],
      [MiB, MiB, true],
      [2 * MiB, 2 * MiB, false],
    ]);
    await disk.close();
    for await (const extent of mapImage(at('a.vvd'), { offset: MiB, length: 4096 })) {
      expect(extent).toMatchObject({ offset: MiB, length: 4096, data: true });
      break;
    }
    await put(at('a.vvd'), 'not locked any more');
  });

  it('tells what space is for', async () => {
    await createImage(at('a.vvd'), { size: 4 * MiB });
    await put(at('a.vvd'), 'data');
    await cloneImage(at('a.vvd'), at('b.vvd'));
    const usage = await diskUsage(at('b.vvd'));
    expect(usage.layers).toHaveLength(2);
    expect(usage.liveBytes).toBe(4096);
    expect(usage.sharedBytes).toBeGreaterThan(0);
  });

  it('checks them, and judges what came from elsewhere', async () => {
    await createImage(at('a.qcow2'), { size: MiB });
    expect(await checkImage(at('a.qcow2'))).toMatchObject({ corruptions: 0, leaks: 0, findings: [] });
    expect(await codeOf(checkImage(at('a.qcow2'), { repair: 'all' }))).toBe('USAGE');
    await createImage(at('a.raw'), { size: MiB });
    expect(await codeOf(checkImage(at('a.raw')))).toBe('UNSUPPORTED');
    expect(await judgeImage(at('a.qcow2'))).toMatchObject({ verdict: 'accept', format: 'qcow2' });
    const { verdict, reasons } = await judgeImage(at('a.raw'));
    expect([verdict, reasons[0]?.code]).toEqual(['reject', 'no-format']);
  });
});

describe('layers', () => {
  beforeEach(async () => {
    await createImage(at('disk.vvd'), { size: 4 * MiB });
    await put(at('disk.vvd'), 'old');
    await createSnapshot(at('disk.vvd'), 'before');
    await put(at('disk.vvd'), 'new');
  });

  it('keep snapshots, return to them, delete them', async () => {
    expect((await listSnapshots(at('disk.vvd'))).map(({ name }) => name)).toEqual(['before']);
    expect(await get(at('disk.vvd'), 3)).toBe('new');
    expect(await get(at('disk.vvd'), 3, 0, 'before')).toBe('old');
    expect(await codeOf(createSnapshot(at('disk.vvd'), 'before'))).toBe('EXISTS');
    expect(await codeOf(openImage(at('disk.vvd'), { snapshot: 'after' }))).toBe('NOT_FOUND');
    await revertSnapshot(at('disk.vvd'), 'before');
    expect(await get(at('disk.vvd'), 3)).toBe('old');
    const plan = await planDeleteSnapshot(at('disk.vvd'), 'before');
    expect(await deleteSnapshot(at('disk.vvd'), 'before')).toEqual(plan);
    expect(readdirSync(folder)).toEqual(['disk.vvd']);
    expect(await get(at('disk.vvd'), 3)).toBe('old');
  });

  it('take a snapshot of all disks or of none', async () => {
    await createImage(at('other.vvd'), { size: MiB });
    expect(await codeOf(createSnapshot([at('other.vvd'), at('disk.vvd')], 'before'))).toBe('EXISTS');
    expect(await listSnapshots(at('other.vvd'))).toEqual([]);
    await createSnapshot([at('other.vvd'), at('disk.vvd')], 'both');
    expect(await listSnapshots(at('other.vvd'))).toHaveLength(1);
  });

  it('make clones whose parents are known by identity', async () => {
    mkdirSync(at('clones'));
    const { base, recorded } = await cloneImage(at('disk.vvd'), at('clones/a.vvd'), { snapshot: 'before' });
    expect([base, recorded]).toEqual([at('disk@before.vvd'), true]);
    expect(await get(at('clones/a.vvd'), 3)).toBe('old');
    expect(await codeOf(deleteSnapshot(at('disk.vvd'), 'before'))).toBe('LOCKED');
    mkdirSync(at('moved'));
    renameSync(base, at('moved/disk@before.vvd'));
    expect((await chainOf(at('clones/a.vvd'))).map(({ state }) => state)).toEqual(['ok', 'missing']);
    expect(await codeOf(openImage(at('clones/a.vvd')))).toBe('STALE_PARENT');
    expect(await codeOf(relocateChain(at('clones/a.vvd'), [at('clones')]))).toBe('STALE_PARENT');
    await relocateChain(at('clones/a.vvd'), [folder]);
    expect((await chainOf(at('clones/a.vvd'))).map(({ state }) => state)).toEqual(['ok', 'ok']);
  });

  it('never replace a file by a clone, and take no snapshot for one that is refused', async () => {
    await createImage(at('other.vvd'), { size: MiB });
    expect(await codeOf(cloneImage(at('disk.vvd'), at('other.vvd')))).toBe('EXISTS');
    expect(await listSnapshots(at('disk.vvd'))).toHaveLength(1);
  });

  it('are sealed and unsealed', async () => {
    await sealImage(at('disk.vvd'));
    expect(await codeOf(openImage(at('disk.vvd'), { readOnly: false }))).toBe('READ_ONLY');
    await cloneImage(at('disk.vvd'), at('clone.vvd'));
    expect(await codeOf(unsealImage(at('disk.vvd')))).toBe('LOCKED');
    await unsealImage(at('disk.vvd'), { force: true });
    await put(at('disk.vvd'), 'changed');
    expect(await codeOf(openImage(at('clone.vvd')))).toBe('STALE_PARENT');
  });

  it('have attributes', async () => {
    await changeAttributes(at('disk.vvd'), { label: 'web', 'x-owner': 'ops' });
    await changeAttributes(at('disk.vvd'), { 'x-owner': undefined });
    const attributes = await readAttributes(at('disk.vvd'));
    expect([attributes.get('label'), attributes.has('x-owner')]).toEqual(['web', false]);
    expect(await codeOf(changeAttributes(at('disk.vvd'), { owner: 'ops' }))).toBe('USAGE');
  });

  it('are refused by name where a format has none', async () => {
    await createImage(at('a.qcow2'), { size: MiB });
    expect(await codeOf(createSnapshot(at('a.qcow2'), 'one'))).toBe('UNSUPPORTED');
    expect(await codeOf(sealImage(at('a.qcow2')))).toBe('UNSUPPORTED');
    expect(existsSync(at('a@one.vvd'))).toBe(false);
  });
});

describe('types', () => {
  it('are those that the documentation shows', () => {
    expectTypeOf(openImage).returns.resolves.toEqualTypeOf<DiskImage>();
    expectTypeOf<DiskImage>().toExtend<BlockDevice>();
    expectTypeOf<DiskImage['pread']>().returns.toEqualTypeOf<MaybePromise<void>>();
    expectTypeOf(convertImage).returns.resolves.toEqualTypeOf<ConvertResult>();
    expectTypeOf(mapImage).returns.toEqualTypeOf<AsyncGenerator<MapExtent>>();
    expectTypeOf<VimgError['code']>().toEqualTypeOf<ErrorCode>();
    // @ts-expect-error a disk has a size or stands on another
    void (() => createImage('disk.vvd'));
    // @ts-expect-error sizes are numbers of bytes
    void (() => createImage('disk.vvd', { size: '20G' }));
    // @ts-expect-error no such option
    void (() => openImage('disk.vvd', { readonly: false }));
  });
});
