/** Headers that refer to exports: nobody is connected to unless the caller named the export. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { createImage } from '../../../src/image/create-image.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { folderGate } from '../../../src/image/gate-policies.ts';
import { nbdPath } from '../../../src/nbd/client/nbd-files.ts';
import { NbdServer } from '../../../src/nbd/server.ts';
import { patterned } from '../../../src/testing/device-model.ts';
import { exported, MiB } from '../served-device.ts';

interface Place {
  readonly path: string;
  readonly uri: string;
  readonly connections: () => number;
}

/** Something listens at the URI, and counts who comes. */
function inPlace(work: (place: Place) => Promise<void>): Promise<void> {
  return withDir(
    async ({ path }) => {
      let connections = 0;
      const socketPath = join(path, 'nbd.sock');
      const server = createServer((socket) => {
        connections++;
        socket.destroy();
      });
      await new Promise<void>((resolve) => server.listen(socketPath, resolve));
      try {
        await work({ path, uri: nbdPath(uriOf(socketPath)), connections: () => connections });
      } finally {
        server.close();
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-nbd-gate' },
  );
}

function uriOf(socketPath: string, name = ''): string {
  return `nbd+unix:///${name}?socket=${encodeURIComponent(socketPath)}`;
}

describe('the gate', () => {
  it.each([
    ['any file', { any: true, allow: [] }],
    ['another export of the server', { any: false, allow: ['nbd+unix:///other?socket='] }],
    ['every folder', { any: false, allow: ['/'] }],
  ])('allowing %s, connects to no server', (_, options) =>
    inPlace(async ({ uri, path, connections }) => {
      const allow = options.allow.map((each) => (each === '/' ? each : each + join(path, 'nbd.sock')));
      const gate = folderGate({ ...options, allow });
      for (const byIdentity of [false, true]) {
        const reference = {
          stored: uri,
          from: '/tmp/disk.qcow2',
          role: 'backing',
          readOnly: true,
          byIdentity,
        } as const;
        await expect(async () => gate(reference)).rejects.toMatchObject({
          code: 'UNSUPPORTED',
          hint: expect.stringContaining(`--allow '${uri}'`),
        });
      }
      expect(connections()).toBe(0);
    }),
  );

  it('connects to the export that was named', () =>
    inPlace(async ({ uri, connections }) => {
      const gate = folderGate({ allow: [uri] });
      const reference = {
        stored: uri,
        from: '/tmp/a',
        role: 'backing',
        readOnly: true,
        byIdentity: false,
      } as const;
      await expect(async () => gate(reference)).rejects.toMatchObject({ code: 'IO' }); // it hangs up
      expect(connections()).toBe(1);
    }));

  it('takes the URI of the caller, with its protection, and not that of the header', () =>
    inPlace(async ({ uri, path }) => {
      const protectedUri = uri.replace('nbd+', 'nbds+');
      const gate = folderGate({ allow: [`${protectedUri}&tls-psk-file=${join(path, 'no-such-file')}`] });
      const reference = {
        stored: uri,
        from: '/tmp/a',
        role: 'backing',
        readOnly: true,
        byIdentity: false,
      } as const;
      await expect(async () => gate(reference)).rejects.toMatchObject({
        path: expect.stringContaining('nbds+unix'),
      });
    }));

  it.each(['nbd://', 'nbd://host:99999/', 'nbd+unix:///', 'nbd://a/?b=c', 'NBD://host/', 'nbd:'])(
    'refuses what is no URI: %s',
    (stored) =>
      inPlace(async ({ uri }) => {
        const reference = {
          stored,
          from: '/tmp/a',
          role: 'backing',
          readOnly: true,
          byIdentity: false,
        } as const;
        await expect(async () => folderGate({ allow: [uri] })(reference)).rejects.toMatchObject({
          code: 'UNSUPPORTED',
        });
      }),
  );

  it('leads from an image inside an export to nothing beside it', () =>
    inPlace(async ({ uri, path, connections }) => {
      for (const stored of ['base.raw', '../base.raw', `./${uri}`]) {
        const reference = { stored, from: uri, role: 'backing', readOnly: true, byIdentity: false } as const;
        await expect(async () =>
          folderGate({ any: true, allow: [uri, path] })(reference),
        ).rejects.toMatchObject({
          code: 'UNSUPPORTED',
        });
      }
      expect(connections()).toBe(0);
    }));
});

describe('a chain that leads to an export', () => {
  it.each(['qcow2', 'vvd'])('%s: nobody is asked before the gate', (format) =>
    inPlace(async ({ uri, path, connections }) => {
      const disk = join(path, 'disk');
      const backing = { path: uri, format: 'raw', unchecked: true };
      if (format === 'vvd') await madeOverServer(path, disk);
      else await createImage(disk, { formats, format, size: MiB, backing });
      await expect(DiskImage.open(disk, { formats, allowAny: true })).rejects.toMatchObject({
        code: 'UNSUPPORTED',
      });
      expect(connections()).toBe(0);
    }),
  );

  it('reads what the export holds', () =>
    withDir(
      async ({ path }) => {
        const disk = join(path, 'disk.vvd');
        const data = patterned(MiB, 5);
        const { server, uri } = await madeOverServer(path, disk, data);
        const image = await DiskImage.open(disk, { formats, readOnly: false, allow: [uri] });
        await image.pwrite(Buffer.from('own'), 100);
        const found = Buffer.alloc(data.length);
        await image.pread(found, 0);
        Buffer.from('own').copy(data, 100);
        expect(found.equals(data)).toBe(true);
        await image.close();
        await server.close();
      },
      { unsafeCleanup: true, prefix: 'vimg-nbd-gate' },
    ));
});

/** A VVD disk that stands on an export. */
async function madeOverServer(
  folder: string,
  disk: string,
  data = patterned(MiB, 1),
): Promise<{ server: NbdServer; uri: string }> {
  const memory = MemoryDevice.create(data.length, { growable: false });
  await memory.pwrite(data, 0);
  const server = await NbdServer.listen(
    { socketPath: join(folder, 'base.sock') },
    { exports: [exported(memory)] },
  );
  const uri = nbdPath(uriOf(join(folder, 'base.sock')));
  await createImage(disk, { formats, format: 'vvd', backing: { path: uri, format: 'raw' }, open: {} });
  return { server, uri };
}
