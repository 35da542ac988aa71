/**
 * The library as its users have it: the built package, by its own name. What the functions under it do is tested
 * where they are; here: defaults, refusals, and that every part is connected. First half: disks and their copies.
 */
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import {
  compareImages,
  convertImage,
  createImage,
  formats,
  imageInfo,
  measureImage,
  openImage,
  type ProgressReport,
  resizeImage,
  VimgError,
} from 'vimg';
import { FaultDevice, MemoryDevice } from 'vimg/device';
import { FormatRegistry } from 'vimg/image';
import { describe, expect, it } from 'vitest';
import { at, codeOf, get, put, useFolder } from './library-folder.ts';

const MiB = 1024 * 1024;

useFolder();

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
    expect(readdirSync(at())).toEqual(['disk.vvd']);
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
    expect(readdirSync(at())).toEqual(['a.vvd']);
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
