/** Exports of servers, through the package's doors: URIs wherever a path is asked for. */
import { readFileSync } from 'node:fs';
import {
  chainOf,
  checkImage,
  cloneImage,
  compareImages,
  convertImage,
  createImage,
  createSnapshot,
  diskUsage,
  imageInfo,
  judgeImage,
  mapImage,
  measureImage,
  openImage,
  resizeImage,
} from 'vimg';
import { MemoryDevice } from 'vimg/device';
import { describe, expect, it } from 'vitest';
import { NbdServer } from '../../src/nbd/server.ts';
import { exported } from '../nbd/served-device.ts';
import { at, codeOf, get, put, useFolder } from './library-folder.ts';

const MiB = 1024 * 1024;

useFolder();

/** A server of `disk`, 8 MiB in memory. */
async function serving(work: (uri: string, memory: MemoryDevice) => Promise<void>): Promise<void> {
  const memory = MemoryDevice.create(8 * MiB, { growable: false });
  const server = await NbdServer.listen(
    { socketPath: at('nbd.sock') },
    { exports: [exported(memory, 'disk')] },
  );
  try {
    await work(`nbd+unix:///disk?socket=${at('nbd.sock')}`, memory);
  } finally {
    await server.close();
  }
}

describe('the export of a server', () => {
  it('is opened, written and read', () =>
    serving(async (uri, memory) => {
      const disk = await openImage(uri, { format: 'raw', readOnly: false });
      expect(disk.size).toBe(8 * MiB);
      await disk.pwrite(Buffer.from('hello'), MiB);
      await disk.flush();
      await disk.close();
      const found = Buffer.alloc(5);
      await memory.pread(found, MiB);
      expect(found.toString()).toBe('hello');
      expect(await codeOf(openImage(uri, { readOnly: false }))).toBe('USAGE'); // raw is a guess
      expect(await codeOf(openImage(uri.replace('/disk', '/none')))).toBe('NOT_FOUND');
      expect(await codeOf(openImage('nbd://host:99999/'))).toBe('USAGE');
    }));

  it('is written into, and compared', () =>
    serving(async (uri) => {
      await createImage(at('source.vvd'), { size: 8 * MiB });
      await put(at('source.vvd'), 'hello', 3 * MiB);
      expect(await codeOf(createImage(uri, { format: 'raw', size: 8 * MiB }))).toBe('EXISTS');
      await createImage(uri, { format: 'raw', size: 8 * MiB, overwrite: true });
      expect(await codeOf(convertImage(at('source.vvd'), uri, { format: 'raw' }))).toBe('EXISTS');
      await convertImage(at('source.vvd'), uri, { format: 'raw', existing: true });
      expect((await compareImages(uri, at('source.vvd'), { format: 'raw' })).identical).toBe(true);
      const itself = { sourceFormat: 'raw', format: 'raw', existing: true };
      expect(await codeOf(convertImage(uri, uri, itself))).toBe('USAGE');
    }));

  it('is looked at, with the image that it holds', () =>
    serving(async (uri, memory) => {
      await createImage(at('source.vvd'), { size: 4 * MiB });
      await put(at('source.vvd'), 'hello', 3 * MiB);
      await memory.pwrite(readFileSync(at('source.vvd')), 0);
      expect((await imageInfo(uri)).format).toBe('vvd');
      expect((await checkImage(uri)).corruptions).toBe(0);
      expect((await judgeImage(uri)).verdict).toBe('accept');
      expect((await diskUsage(uri)).liveBytes).toBeGreaterThan(0);
      expect((await measureImage(uri, { format: 'qcow2' })).required).toBeGreaterThan(0);
      let data = 0;
      for await (const extent of mapImage(uri)) if (extent.data) data += extent.length;
      expect(data).toBeGreaterThan(0);
      await convertImage(uri, at('copy.qcow2'));
      expect(await get(at('copy.qcow2'), 5, 3 * MiB)).toBe('hello');
    }));

  it('is stood on, by disks that are allowed to', () =>
    serving(async (uri) => {
      const raw = await openImage(uri, { format: 'raw', readOnly: false });
      await raw.pwrite(Buffer.from('below'), MiB);
      await raw.close();
      await createImage(at('thin.qcow2'), { backing: { path: uri, format: 'raw' } });
      await cloneImage(uri, at('clone.vvd'), { format: 'raw' });
      for (const path of [at('thin.qcow2'), at('clone.vvd')]) {
        expect(await codeOf(openImage(path))).toBe('UNSUPPORTED');
        expect(await codeOf(openImage(path, { allowAny: true }))).toBe('UNSUPPORTED');
        const disk = await openImage(path, { allow: [uri] });
        const found = Buffer.alloc(5);
        await disk.pread(found, MiB);
        expect(found.toString()).toBe('below');
        await disk.close();
        expect((await chainOf(path, { allow: [uri] })).map((link) => link.state)).toEqual(['ok', 'ok']);
      }
    }));

  it('is no file: what is done to whole files is refused', () =>
    serving(async (uri, memory) => {
      await createImage(at('source.vvd'), { size: 4 * MiB });
      await memory.pwrite(readFileSync(at('source.vvd')), 0);
      expect(await codeOf(createSnapshot(uri, 'before'))).toBe('UNSUPPORTED');
      expect(await codeOf(resizeImage(uri, 16 * MiB, { format: 'raw' }))).toBe('UNSUPPORTED');
      expect((await checkImage(uri)).corruptions).toBe(0);
    }));
});
