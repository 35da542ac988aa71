/** Clients that are slow, greedy, many, or die: what a server holds for them is bounded, and what it does is whole. */
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { CountDevice } from '../../src/device/count-device.ts';
import { DelayDevice } from '../../src/device/delay-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { CMD_FLAG_DF, CMD_FLUSH, CMD_READ, CMD_WRITE } from '../../src/nbd/protocol.ts';
import { NbdServer } from '../../src/nbd/server.ts';
import { RawClient } from './raw-client.ts';
import { exported, MiB, withServer } from './served-device.ts';

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe('back-pressure', () => {
  it.each([
    ['in the same tick', (device: MemoryDevice) => device],
    ['later', (device: MemoryDevice) => new DelayDevice(device, 1)],
  ])('a client that stops reading holds bounded memory; the device answers %s', async (_, wrap) => {
    const counted = new CountDevice(wrap(MemoryDevice.create(64 * MiB)));
    const limits = { bufferedBytes: 4 * MiB };
    await withServer(
      [exported(counted)],
      async ({ connect }) => {
        const client = await connect();
        await client.enter({ structured: false });
        client.socket.pause();
        const count = 1000;
        for (let i = 0; i < count; i++)
          client.sendRequest({ type: CMD_READ, length: MiB, cookie: BigInt(i) });
        await turns(100);
        // 4 MiB with the server, and what the system's socket buffers take: far from the 1000 MiB asked for.
        expect(counted.counts.read.bytes).toBeLessThanOrEqual(8 * MiB);
        const other = await connect();
        await other.enter({ structured: false });
        expect(await other.ask({ type: CMD_FLUSH })).toBe(0);
        client.socket.resume();
        for (let i = 0; i < 20; i++) {
          expect((await client.simpleReply()).error).toBe(0);
          await client.read(MiB);
        }
      },
      { limits },
    );
  });

  it('no more requests than the limit reach the device', async () => {
    let running = 0;
    let most = 0;
    const device = MemoryDevice.create(MiB);
    const slow = Object.assign(Object.create(device), {
      async pread(buffer: Uint8Array, offset: number): Promise<void> {
        most = Math.max(most, ++running);
        await turns(1);
        running--;
        device.pread(buffer, offset);
      },
    }) as MemoryDevice;
    // accessors of the class need their own object
    Object.defineProperty(slow, 'size', { value: MiB });
    await withServer(
      [exported(slow)],
      async ({ connect }) => {
        const client = await connect();
        await client.enter({ structured: false });
        for (let i = 0; i < 200; i++) client.sendRequest({ type: CMD_READ, length: 512 });
        for (let i = 0; i < 200; i++) {
          expect((await client.simpleReply()).error).toBe(0);
          await client.read(512);
        }
        expect(most).toBe(8);
      },
      { limits: { requests: 8 } },
    );
  });

  it('the largest request passes also where it is above the limit', () =>
    withServer(
      [exported(MemoryDevice.create(64 * MiB))],
      async ({ connect }) => {
        const client = await connect();
        await client.enter({});
        const data = Buffer.alloc(32 * MiB, 5);
        expect(await client.ask({ type: CMD_WRITE, length: data.length, data })).toBe(0);
        for (let i = 0; i < 2; i++)
          client.sendRequest({ type: CMD_READ, length: data.length, flags: CMD_FLAG_DF });
        for (let i = 0; i < 2; i++)
          expect((await client.chunk()).payload.subarray(8).equals(data)).toBe(true);
      },
      { limits: { bufferedBytes: MiB } },
    ));
});

describe('clients that go', () => {
  it('one that dies in a write has written nothing', async () => {
    const device = MemoryDevice.create(4 * MiB);
    await withServer([exported(device)], async ({ connect, server }) => {
      const client = await connect();
      await client.enter({});
      const data = Buffer.alloc(MiB, 7);
      client.sendRequest({ type: CMD_WRITE, length: 2 * MiB, data });
      await turns(20);
      client.close();
      await until(() => server.clients === 0);
      const found = Buffer.alloc(4 * MiB, 1);
      device.pread(found, 0);
      expect(found.equals(Buffer.alloc(4 * MiB))).toBe(true);
    });
  });

  it('one that dies with requests in flight leaves nothing behind', async () => {
    const device = new DelayDevice(MemoryDevice.create(4 * MiB), 10);
    await withServer([exported(device)], async ({ connect, server }) => {
      for (let round = 0; round < 5; round++) {
        const client = await connect();
        await client.enter({});
        for (let i = 0; i < 50; i++) client.sendRequest({ type: CMD_READ, offset: i, length: 100_000 });
        client.sendRequest({ type: CMD_WRITE, length: 512, data: Buffer.alloc(512) });
        await turns(3);
        client.close();
      }
      await until(() => server.clients === 0);
    });
  });

  it('one that half-closes is answered first', () =>
    withServer([exported(new DelayDevice(MemoryDevice.create(MiB), 10))], async ({ connect }) => {
      const client = await connect();
      await client.enter({ structured: false });
      client.sendRequest({ type: CMD_WRITE, length: 512, data: Buffer.alloc(512, 1) });
      client.socket.end();
      expect((await client.simpleReply()).error).toBe(0);
      await client.closed;
    }));
});

describe('many clients', () => {
  it('one more than the limit is sent away, and finds room later', () =>
    withServer(
      [exported(MemoryDevice.create(MiB))],
      async ({ connect, server }) => {
        const [first, second] = [await connect(), await connect()];
        await first.enter({});
        await second.enter({});
        const third = await connect();
        await third.closed;
        first.close();
        await until(() => server.clients === 1);
        const fourth = await connect();
        await fourth.enter({});
      },
      { limits: { connections: 2 } },
    ));

  it('two thousand that come and go', () =>
    withServer([exported(MemoryDevice.create(MiB))], async ({ server, connect }) => {
      for (let round = 0; round < 20; round++) {
        const clients = await Promise.all(Array.from({ length: 100 }, () => connect()));
        await Promise.all(clients.map((client) => client.greet()));
        for (const client of clients) client.close();
        await until(() => server.clients === 0);
      }
      const last = await connect();
      await last.enter({ structured: false });
      expect(await last.ask({ type: CMD_FLUSH })).toBe(0);
    }));
});

describe('shutdown', () => {
  it('answers what is in flight, and touches no device afterwards', async () => {
    const device = MemoryDevice.create(MiB);
    await withDir(
      async ({ path }) => {
        const exports = [exported(new DelayDevice(device, 30))];
        const server = await NbdServer.listen({ socketPath: join(path, 'nbd.sock') }, { exports });
        const client = await RawClient.connect(server.address);
        await client.enter({ structured: false });
        client.sendRequest({ type: CMD_WRITE, length: 512, data: Buffer.alloc(512, 9), cookie: 1n });
        await turns(10);
        const closing = server.close();
        expect(await client.simpleReply()).toMatchObject({ error: 0, cookie: 1n });
        await client.closed;
        await closing;
        const found = Buffer.alloc(512);
        device.pread(found, 0);
        expect(found).toEqual(Buffer.alloc(512, 9));
      },
      { unsafeCleanup: true },
    );
  });

  it('a client that takes nothing is cut off', async () => {
    await withDir(
      async ({ path }) => {
        const exports = [exported(MemoryDevice.create(64 * MiB))];
        const address = { socketPath: join(path, 'nbd.sock') };
        const server = await NbdServer.listen(address, { exports, limits: { shutdownMs: 50 } });
        const client = await RawClient.connect(server.address);
        await client.enter({ structured: false });
        client.socket.pause();
        for (let i = 0; i < 8; i++) client.sendRequest({ type: CMD_READ, length: 4 * MiB });
        await turns(20);
        await server.close();
        expect(server.clients).toBe(0);
        client.close();
      },
      { unsafeCleanup: true },
    );
  });
});
