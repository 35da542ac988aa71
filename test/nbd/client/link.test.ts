import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import type { ClientLimits } from '../../../src/nbd/client/client-limits.ts';
import { NbdDevice } from '../../../src/nbd/client/nbd-device.ts';
import { NbdServer } from '../../../src/nbd/server.ts';
import { patterned } from '../../../src/testing/device-model.ts';
import { exported, MiB } from '../served-device.ts';

interface Place {
  readonly socketPath: string;
  readonly serve: () => Promise<NbdServer>;
  readonly open: (limits?: Partial<ClientLimits>) => Promise<NbdDevice>;
}

/** A memory device whose server can be ended and started again. */
function inPlace(work: (place: Place) => Promise<void>): Promise<void> {
  return withDir(
    ({ path }) => {
      const memory = MemoryDevice.create(4 * MiB, { growable: false });
      const socketPath = join(path, 'nbd.sock');
      const uri = `nbd+unix:///?socket=${encodeURIComponent(socketPath)}`;
      return work({
        socketPath,
        serve: () => NbdServer.listen({ socketPath }, { exports: [exported(memory)] }),
        open: (limits = {}) => NbdDevice.open(uri, { readOnly: false, limits }),
      });
    },
    { unsafeCleanup: true, prefix: 'vimg-nbd-link' },
  );
}

describe('a connection that is lost', () => {
  it('is made anew, and reads what was flushed', () =>
    inPlace(async ({ serve, open }) => {
      const first = await serve();
      const device = await open();
      const data = patterned(3 * MiB, 7);
      await device.pwrite(data, 100);
      await device.flush();
      await first.close();
      const second = await serve();
      const found = Buffer.alloc(data.length);
      await device.pread(found, 100);
      expect(found.equals(data)).toBe(true);
      await device.close();
      await second.close();
    }));

  it('fails for good when writes were acknowledged and not flushed', () =>
    inPlace(async ({ serve, open }) => {
      const first = await serve();
      const device = await open();
      await device.pwrite(patterned(4096, 1), 0);
      await first.close();
      const second = await serve();
      await expect(async () => device.flush()).rejects.toMatchObject({ code: 'IO' });
      await expect(device.pread(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'IO' });
      await device.close();
      await second.close();
    }));

  it('fails after a while without a server', () =>
    inPlace(async ({ serve, open }) => {
      const server = await serve();
      const device = await open({ reconnectMs: 50 });
      await server.close();
      await expect(device.pread(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'IO' });
      await device.close();
    }));
});

/** A server that says one thing to everyone. */
async function talking(socketPath: string, words: Uint8Array): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(words);
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return server;
}

describe('a server that is none', () => {
  it.each([
    ['is silent', ''],
    ['says something else', 'SSH-2.0-OpenSSH_9.2 and more of it'],
    ['speaks the old dialect', 'NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53 and more'],
  ])('%s: an error', (_, words) =>
    inPlace(async ({ socketPath, open }) => {
      const server = await talking(socketPath, Buffer.from(words, 'latin1'));
      await expect(open({ handshakeMs: 100 })).rejects.toMatchObject({ code: 'IO' });
      server.close();
    }),
  );
});
