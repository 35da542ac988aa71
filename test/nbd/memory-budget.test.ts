/** The memory of all clients together: bounded, nobody waits for ever, and small requests never wait. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { DelayDevice } from '../../src/device/delay-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { MemoryBudget, type MemoryShare } from '../../src/nbd/memory-budget.ts';
import { CMD_READ, CMD_WRITE } from '../../src/nbd/protocol.ts';
import { DEFAULT_LIMITS, ownBytesOf } from '../../src/nbd/server-limits.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { RawClient } from './raw-client.ts';
import { exported, MiB, withServer } from './served-device.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe('the budget', () => {
  it('lets waiting clients in by turns, first come, first served', async () => {
    const budget = new MemoryBudget(10, 100);
    const order: string[] = [];
    const shares: Record<string, MemoryShare> = {};
    for (const name of ['a', 'b']) {
      shares[name] = budget.share(() => {
        const share = shares[name] as MemoryShare;
        if (share.mayHave(0, 110)) {
          share.hold(110);
          order.push(name);
        }
      });
    }
    const holder = budget.share(() => undefined);
    expect(holder.mayHave(0, 110)).toBe(true);
    holder.hold(110);
    expect(budget.usedBytes).toBe(100);
    for (const name of ['a', 'b']) expect(shares[name]?.mayHave(0, 110)).toBe(false);
    expect(holder.mayHave(110, 20)).toBe(false); // behind those that wait
    holder.leave();
    holder.hold(0);
    await turn();
    expect(order).toEqual(['a']);
    shares['a']?.hold(0);
    await turn();
    expect(order).toEqual(['a', 'b']);
    shares['b']?.hold(0);
    expect(budget.usedBytes).toBe(0);
  });

  it('never lets a client wait for its own part, and always lets one request in', async () => {
    const budget = new MemoryBudget(10, 100);
    const [holder, other] = [budget.share(() => undefined), budget.share(() => undefined)];
    expect(holder.mayHave(0, 5000)).toBe(true); // more than there is, and nobody else has any
    holder.hold(5000);
    expect(other.mayHave(0, 11)).toBe(false);
    expect(other.mayHave(0, 10)).toBe(true);
    other.leave();
    holder.hold(0);
    await turn();
    expect(other.mayHave(10, 100)).toBe(true);
  });

  it('is no more for the own parts of all clients than what they share', () => {
    expect(ownBytesOf(DEFAULT_LIMITS)).toBe(MiB);
    expect(ownBytesOf({ ...DEFAULT_LIMITS, connections: 1024 })).toBe(MiB / 4);
    expect(ownBytesOf({ ...DEFAULT_LIMITS, connections: 10_000 })).toBe(64 * 1024);
  });

  it('goes on to the next when the first goes away', async () => {
    const budget = new MemoryBudget(0, 100);
    let woken = 0;
    const [holder, first] = [budget.share(() => undefined), budget.share(() => undefined)];
    const second = budget.share(() => {
      woken++;
      expect(second.mayHave(0, 20)).toBe(true);
    });
    holder.hold(50);
    expect(first.mayHave(0, 80)).toBe(false);
    expect(second.mayHave(0, 20)).toBe(false); // would fit, but came later
    first.leave();
    await turn();
    expect(woken).toBe(1);
  });
});

/** A client has 204 KiB for itself: its part of as much as is shared. */
const limits = { connections: 40, sharedBytes: 8 * MiB, ownBytes: MiB / 2, bufferedBytes: 4 * MiB };

it('many clients that stop reading hold what there is, and no more; all are answered when they read on', () =>
  withServer(
    [exported(new DelayDevice(MemoryDevice.create(64 * MiB), 1))],
    async ({ server, connect }) => {
      const count = 30;
      const each = 20;
      const clients: RawClient[] = [];
      for (let i = 0; i < count; i++) {
        const client = await connect();
        await client.enter({ structured: false });
        client.socket.pause();
        clients.push(client);
        for (let at = 0; at < each; at++) client.sendRequest({ type: CMD_READ, length: MiB });
      }
      let most = 0;
      for (let i = 0; i < 100; i++) {
        await turns(2);
        most = Math.max(most, server.sharedBytesInUse);
      }
      expect(most).toBeLessThanOrEqual(limits.sharedBytes);
      expect(most).toBeGreaterThan(limits.sharedBytes / 2);
      const small = await connect();
      await small.enter({ structured: false });
      const data = Buffer.alloc(128 * 1024, 3);
      for (let i = 0; i < 20; i++) {
        expect(await small.ask({ type: CMD_WRITE, length: data.length, data })).toBe(0);
      }
      const readAll = async (client: RawClient): Promise<void> => {
        client.socket.resume();
        for (let at = 0; at < each; at++) {
          expect((await client.simpleReply()).error).toBe(0);
          await client.read(MiB);
        }
      };
      await Promise.all(clients.map(readAll));
      expect(server.sharedBytesInUse).toBe(0);
    },
    { limits },
  ));

it('clients that go give back what they held', () =>
  withServer(
    [exported(new DelayDevice(MemoryDevice.create(64 * MiB), 5))],
    async ({ server, connect }) => {
      for (let round = 0; round < 3; round++) {
        const clients = await Promise.all(Array.from({ length: 10 }, () => connect()));
        for (const client of clients) {
          await client.enter({});
          client.socket.pause();
          for (let at = 0; at < 10; at++) client.sendRequest({ type: CMD_READ, length: 2 * MiB });
        }
        await turns(20);
        for (const client of clients) client.close();
        while (server.clients > 0) await turns(1);
        expect(server.sharedBytesInUse).toBe(0);
      }
    },
    { limits },
  ));

it('a hundred slow readers do not make the process swell', () =>
  withDir(
    async ({ path: folder }) => {
      const disk = join(folder, 'disk.raw');
      writeFileSync(disk, Buffer.alloc(16 * MiB, 'data'));
      truncateSync(disk, 64 * MiB);
      const socketPath = join(folder, 'nbd.sock');
      const args = ['serve', '-f', 'raw', disk, '--socket', socketPath];
      const server: ChildProcess = spawn(process.execPath, [BUILT_TOOL, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = new Promise((resolve) => server.once('exit', resolve));
      await new Promise((resolve) => server.stdout?.once('data', resolve));
      const clients: RawClient[] = [];
      try {
        for (let i = 0; i < 100; i++) {
          const client = await RawClient.connect({ socketPath });
          clients.push(client);
          await client.enter({ structured: false });
          client.socket.pause();
          for (let at = 0; at < 20; at++) client.sendRequest({ type: CMD_READ, length: MiB });
        }
        await turns(300);
        const last = await RawClient.connect({ socketPath });
        clients.push(last);
        await last.enter({ structured: false });
        last.sendRequest({ type: CMD_READ, length: 512 * 1024 });
        expect((await last.simpleReply()).error).toBe(0);
        await last.read(512 * 1024);
        const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'));
        const peakMiB = Number(peak?.[1]) / 1024;
        console.log(`${Math.round(peakMiB)} MiB at the most`);
        expect(peakMiB).toBeLessThan(750); // 356 of clients; 1600 without the bound
      } finally {
        for (const client of clients) client.close();
        server.kill();
        await exited;
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-memory-' },
  ));
