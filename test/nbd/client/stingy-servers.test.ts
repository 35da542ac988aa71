/** Servers that answer in part, or not all: every request ends, and nothing else is taken with it without need. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { type ClientLimits, SENDINGS_MAX } from '../../../src/nbd/client/client-limits.ts';
import { NbdDevice } from '../../../src/nbd/client/nbd-device.ts';
import { CMD_FLUSH, CMD_READ, CMD_WRITE, REPLY_NONE, SEND_MULTI_CONN } from '../../../src/nbd/protocol.ts';
import {
  type Asked,
  chunkReply,
  type SmallServer,
  type SmallServerOptions,
  simpleReply,
  smallServer,
} from './small-server.ts';

const SIZE = 1024 * 1024;

interface Opened {
  readonly server: SmallServer;
  readonly device: NbdDevice;
}

function against(
  options: Partial<SmallServerOptions> & Pick<SmallServerOptions, 'onRequest'>,
  limits: Partial<ClientLimits>,
  work: (opened: Opened) => Promise<void>,
): Promise<void> {
  return withDir(
    async ({ path }) => {
      const socketPath = join(path, 'nbd.sock');
      const server = await smallServer(socketPath, { replies: 'simple', size: SIZE, ...options });
      const uri = `nbd+unix:///?socket=${encodeURIComponent(socketPath)}`;
      const device = await NbdDevice.open(uri, { readOnly: false, limits });
      try {
        await work({ server, device });
      } finally {
        await device.close();
        await server.close();
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-stingy' },
  );
}

function whole({ cookie, length, type }: Asked): Buffer {
  return simpleReply(cookie, 0, Buffer.alloc(type === CMD_READ ? length : 0, 1));
}

describe('a server that drips', () => {
  it('a byte now and then: the request ends', () =>
    against(
      {
        onRequest: (asked, socket) => {
          const drip = async (): Promise<void> => {
            for (const byte of whole(asked)) {
              if (socket.destroyed) return;
              socket.write(Buffer.of(byte));
              await sleep(10);
            }
          };
          void drip();
        },
      },
      { silenceMs: 60 },
      async ({ server, device }) => {
        await expect(device.pread(Buffer.alloc(65_000), 0)).rejects.toMatchObject({
          code: 'IO',
          message: expect.stringContaining('does not answer any more'),
        });
        expect(server.entered()).toBe(SENDINGS_MAX);
      },
    ));

  it('chunks without content: the request ends', () =>
    against(
      {
        replies: 'structured',
        onRequest: (asked, socket) => {
          const timer = setInterval(() => {
            if (socket.destroyed) clearInterval(timer);
            else
              socket.write(
                chunkReply('structured', asked, { type: REPLY_NONE, payload: Buffer.alloc(0), done: false }),
              );
          }, 5);
        },
      },
      { silenceMs: 60 },
      async ({ device }) => {
        await expect(device.pread(Buffer.alloc(512), 0)).rejects.toMatchObject({ code: 'IO' });
      },
    ));

  it('answers some and leaves one out: that one ends, by itself', () =>
    against(
      {
        onRequest: (asked, socket) => {
          if (asked.type !== CMD_FLUSH && asked.offset !== 512) socket.write(whole(asked));
        },
      },
      { silenceMs: 10_000, replyMs: 100 },
      async ({ device }) => {
        const leftOut = device.pread(Buffer.alloc(512), 512).then(
          () => 'read',
          (error: unknown) => error,
        );
        let isOver = false;
        void leftOut.then(() => {
          isOver = true;
        });
        while (!isOver) await device.pread(Buffer.alloc(512), 0);
        expect(await leftOut).toMatchObject({ code: 'IO', offset: 512 });
        await device.pread(Buffer.alloc(512), 0);
      },
    ));
});

describe('a server that is slow', () => {
  it.each([
    ['has several connections where it promises that they see the same', SEND_MULTI_CONN, 4],
    ['has one where it does not', 0, 1],
  ])('%s', (_, flags, expected) => {
    const waiting: (() => void)[] = [];
    const sockets = new Set<unknown>();
    const onRequest: SmallServerOptions['onRequest'] = (asked, socket) => {
      sockets.add(socket);
      waiting.push(() => socket.write(whole(asked)));
    };
    return against({ flags, onRequest }, { requests: 2 }, async ({ device }) => {
      const reads = Array.from({ length: 20 }, (_each, at) => device.pread(Buffer.alloc(512), at * 512));
      for (let answered = 0; answered < reads.length; answered++) {
        if (answered === 0) await expect.poll(() => waiting.length).toBe(2 * expected);
        await expect.poll(() => waiting.length).toBeGreaterThan(0);
        waiting.shift()?.();
      }
      await Promise.all(reads);
      expect(sockets.size).toBe(expected);
    });
  });
});

describe('a server that ends', () => {
  it('whenever a certain place is read: only that fails', () =>
    against(
      {
        onRequest: (asked, socket) => {
          if (asked.offset === 4096) socket.destroy();
          else socket.write(whole(asked));
        },
      },
      {},
      async ({ server, device }) => {
        await expect(device.pread(Buffer.alloc(512), 4096)).rejects.toMatchObject({
          code: 'IO',
          offset: 4096,
        });
        expect(server.entered()).toBe(SENDINGS_MAX);
        const found = Buffer.alloc(512);
        await device.pread(found, 0);
        expect(found.equals(Buffer.alloc(512, 1))).toBe(true);
      },
    ));

  it('and all its connections with it: that counts once', () =>
    withDir(
      async ({ path }) => {
        const socketPath = join(path, 'nbd.sock');
        const connections = 6;
        const stuck: Asked[] = [];
        const start = (onRequest: SmallServerOptions['onRequest']): Promise<SmallServer> =>
          smallServer(socketPath, { replies: 'simple', size: SIZE, flags: SEND_MULTI_CONN, onRequest });
        const first = await start((asked) => stuck.push(asked));
        const uri = `nbd+unix:///?socket=${encodeURIComponent(socketPath)}`;
        const device = await NbdDevice.open(uri, { limits: { requests: 1, connections } });
        const reads = Array.from({ length: connections }, (_, at) =>
          device.pread(Buffer.alloc(512), at * 512),
        );
        while (stuck.length < connections) await sleep(1);
        await first.close();
        const second = await start((asked, socket) => socket.write(whole(asked)));
        await Promise.all(reads);
        await device.close();
        await second.close();
      },
      { unsafeCleanup: true, prefix: 'vimg-stingy' },
    ));

  it('with a change on one connection: what waits on the others ends as well', () =>
    against(
      {
        flags: SEND_MULTI_CONN,
        onRequest: (asked, socket) => {
          if (asked.type === CMD_WRITE) socket.destroy();
        },
      },
      { requests: 1 },
      async ({ device }) => {
        const work = [device.pread(Buffer.alloc(512), 0), device.pread(Buffer.alloc(512), 512)];
        work.push(device.pwrite(Buffer.alloc(512), 1024));
        for (const { status } of await Promise.allSettled(work)) expect(status).toBe('rejected');
      },
    ));

  it('in the bytes that acknowledge a write: it counts as acknowledged, and not flushed', () =>
    against(
      {
        onRequest: (asked, socket) => {
          const noise =
            asked.type === CMD_WRITE ? Buffer.from('and something that is no reply') : Buffer.alloc(0);
          socket.write(Buffer.concat([whole(asked), noise]));
        },
      },
      {},
      async ({ device }) => {
        await device.pwrite(Buffer.alloc(512), 0);
        await expect(device.pread(Buffer.alloc(512), 0)).rejects.toMatchObject({
          code: 'IO',
          message: expect.stringContaining('before writes were flushed'),
        });
      },
    ));

  it('while nothing is asked: it is looked for by the next request', () =>
    against({ onRequest: (asked, socket) => socket.end(whole(asked)) }, {}, async ({ server, device }) => {
      for (let round = 1; round <= 3; round++) {
        await device.pread(Buffer.alloc(512), 0);
        await sleep(20);
        expect(server.entered()).toBe(round);
      }
    }));
});
