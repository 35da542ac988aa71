/** Exports that a process has open several times, or one time after the other: how often a server is connected to. */
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { openFile } from '../../../src/device/files.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { linkedClone } from '../../../src/image/clone.ts';
import { mountAndKeepExports, nbdPath } from '../../../src/nbd/client/nbd-files.ts';
import { NbdServer } from '../../../src/nbd/server.ts';
import { exported, MiB } from '../served-device.ts';

interface Place {
  readonly path: string;
  readonly uri: string;
  /** Connections so far, and those that are there now. */
  readonly connections: () => [number, number];
  /** The server ends, and another one takes its place. */
  readonly exchange: () => Promise<void>;
}

function inPlace(work: (place: Place) => Promise<void>, readOnly = false): Promise<void> {
  return withDir(
    async ({ path }) => {
      const [socketPath, behind] = [join(path, 'nbd.sock'), join(path, 'behind.sock')];
      const memory = MemoryDevice.create(MiB, { growable: false });
      const device = readOnly ? memory.fork({ readOnly }) : memory;
      const serve = (): Promise<NbdServer> =>
        NbdServer.listen({ socketPath: behind }, { exports: [exported(device)] });
      let server = await serve();
      const counts: [number, number] = [0, 0];
      const proxy = createServer((socket) => {
        const onward = connect(behind);
        counts[0]++;
        counts[1]++;
        socket.pipe(onward).pipe(socket);
        for (const each of [socket, onward]) each.on('error', () => undefined);
        onward.on('close', () => socket.destroy());
        socket.on('close', () => {
          counts[1]--;
          onward.destroy();
        });
      });
      await new Promise<void>((resolve) => proxy.listen(socketPath, resolve));
      try {
        await work({
          path,
          uri: nbdPath(`nbd+unix:///?socket=${encodeURIComponent(socketPath)}`),
          connections: () => [...counts],
          exchange: async () => {
            await server.close();
            server = await serve();
          },
        });
      } finally {
        await server.close();
        proxy.close();
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-open-exports' },
  );
}

/** As the server sees it, a moment after the client closed it. */
async function expectConnections(place: Place, expected: readonly [number, number]): Promise<void> {
  await expect.poll(place.connections).toEqual(expected);
}

describe('an export', () => {
  it('that is open several times has one connection, as long as somebody has it open', () =>
    inPlace(async (place) => {
      const files = await Promise.all(
        [true, false, true].map((readOnly) => openFile(place.uri, { readOnly })),
      );
      const [first, second, third] = files as [(typeof files)[0], (typeof files)[0], (typeof files)[0]];
      await second.pwrite(Buffer.from('written'), 0);
      await second.close();
      await second.close();
      await third.close();
      const found = Buffer.alloc(7);
      await first.pread(found, 0);
      expect(found.toString()).toBe('written');
      await expectConnections(place, [1, 1]);
      await first.close();
      await expectConnections(place, [1, 0]);
      await (await openFile(place.uri, { readOnly: true })).close();
      await expectConnections(place, [2, 0]);
    }));

  it('keeps its connection until the end of a command', () =>
    inPlace(async (place) => {
      const end = mountAndKeepExports();
      for (const readOnly of [true, false, true]) await (await openFile(place.uri, { readOnly })).close();
      await expectConnections(place, [1, 1]);
      const open = await openFile(place.uri, { readOnly: true });
      await end();
      await open.pread(Buffer.alloc(1), 0);
      await open.close();
      await expectConnections(place, [1, 0]);
    }));

  it('is connected to once for a clone', () =>
    inPlace(async (place) => {
      await linkedClone(place.uri, join(place.path, 'clone.vvd'), { formats, allow: [place.uri] });
      await expectConnections(place, [1, 0]);
    }));

  it('that was opened to be read is not written by it', () =>
    inPlace(async ({ uri }) => {
      const writer = await openFile(uri, { readOnly: false });
      const reader = await openFile(uri, { readOnly: true });
      expect(() => reader.pwrite(Buffer.alloc(1), 0)).toThrow(expect.objectContaining({ code: 'READ_ONLY' }));
      expect(() => reader.writeZeroes(0, 1)).toThrow(expect.objectContaining({ code: 'READ_ONLY' }));
      expect(() => reader.discard(0, 1)).toThrow(expect.objectContaining({ code: 'READ_ONLY' }));
      await reader.close();
      await writer.close();
    }));

  it('that may only be read is refused for writing, and read on by who reads it', () =>
    inPlace(async (place) => {
      const reader = await openFile(place.uri, { readOnly: true });
      await expect(openFile(place.uri, { readOnly: false })).rejects.toMatchObject({ code: 'READ_ONLY' });
      await reader.pread(Buffer.alloc(1), 0);
      await reader.close();
      await expectConnections(place, [1, 0]);
    }, true));

  it('that failed for good is connected to anew by who opens it next', () =>
    inPlace(async (place) => {
      const writer = await openFile(place.uri, { readOnly: false });
      await writer.pwrite(Buffer.alloc(4096, 1), 0);
      await place.exchange();
      await expect(async () => writer.flush()).rejects.toMatchObject({ code: 'IO' });
      const next = await openFile(place.uri, { readOnly: true });
      await next.pread(Buffer.alloc(1), 0);
      await next.close();
      await writer.close();
      await expectConnections(place, [2, 0]);
    }));

  it('without a server is looked for each time', () =>
    inPlace(async ({ path }) => {
      const uri = nbdPath(`nbd+unix:///?socket=${join(path, 'none.sock')}`);
      for (let i = 0; i < 2; i++)
        await expect(openFile(uri, {})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }));
});
