/**
 * The library as its users have it: the built package, by its own name. What the functions under it do is tested
 * where they are; here: defaults, refusals, and that every part is connected. Second half: looking at disks, layers, types.
 */
import { existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import {
  type BlockDevice,
  type ConvertResult,
  chainOf,
  changeAttributes,
  checkImage,
  cloneImage,
  convertImage,
  createImage,
  createSnapshot,
  type DiskImage,
  deleteSnapshot,
  diskUsage,
  type ErrorCode,
  judgeImage,
  listSnapshots,
  type MapExtent,
  type MaybePromise,
  mapImage,
  openImage,
  planDeleteSnapshot,
  readAttributes,
  relocateChain,
  revertSnapshot,
  sealImage,
  unsealImage,
  type VimgError,
} from 'vimg';
import { beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { at, codeOf, get, put, useFolder } from './library-folder.ts';

const MiB = 1024 * 1024;

useFolder();

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
    expect(readdirSync(at())).toEqual(['disk.vvd']);
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
    await relocateChain(at('clones/a.vvd'), [at()]);
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
