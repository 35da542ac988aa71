/** `vimg serve` as a process: it is killed, it is stopped while clients work, it leaves a socket behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { ForwardingDevice } from '../../src/device/forwarding-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { CMD_FLAG_FUA, CMD_FLUSH, CMD_WRITE } from '../../src/nbd/protocol.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { RawClient } from './raw-client.ts';
import { exported, MiB, withServer } from './served-device.ts';

const SIZE = 16 * MiB;
const BLOCK = 4096;

interface Process {
  readonly child: ChildProcess;
  readonly exited: Promise<number | NodeJS.Signals | null>;
  readonly connect: () => Promise<RawClient>;
}

/** Starts the tool and waits until clients can connect. */
async function start(disk: string, folder: string, ...more: readonly string[]): Promise<Process> {
  const socketPath = join(folder, 'nbd.sock');
  const child = spawn(process.execPath, [BUILT_TOOL, 'serve', disk, '--socket', socketPath, ...more], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal));
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', () => reject(new Error('the server ended before it served')));
  });
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect({ socketPath });
    await client.enter({ structured: false });
    return client;
  };
  return { child, exited, connect };
}

async function withVvd(work: (path: string, folder: string) => Promise<void>): Promise<void> {
  await withDir(
    async ({ path }) => {
      const disk = join(path, 'disk.vvd');
      await createImage(disk, { formats, format: 'vvd', size: SIZE });
      await work(disk, path);
    },
    { unsafeCleanup: true, prefix: 'vimg-serve' },
  );
}

/** A block that says which write it is. */
function stamped(round: number): Buffer {
  const data = Buffer.alloc(BLOCK);
  for (let at = 0; at < BLOCK; at += 4) data.writeUInt32LE(round, at);
  return data;
}

describe('vimg serve', () => {
  it.each([
    ['a flush', 0, true],
    ['FUA', CMD_FLAG_FUA, false],
  ])('kill -9 loses nothing that %s acknowledged', (_, flags, flush) =>
    withVvd(async (path, folder) => {
      const { child, exited, connect } = await start(path, folder);
      const client = await connect();
      const durable = new Map<number, number>();
      const rounds = 60;
      for (let round = 1; round <= rounds; round++) {
        const offset = ((round * 37) % 40) * 100 * 1024;
        const write = { type: CMD_WRITE, flags, offset, length: BLOCK, data: stamped(round) };
        expect(await client.ask(write)).toBe(0);
        if (flush) expect(await client.ask({ type: CMD_FLUSH })).toBe(0);
        durable.set(offset, round);
      }
      for (let i = 0; i < 50; i++) {
        client.sendRequest({
          type: CMD_WRITE,
          offset: 8 * MiB + i * BLOCK,
          length: BLOCK,
          data: stamped(999),
        });
      }
      child.kill('SIGKILL');
      expect(await exited).toBe('SIGKILL');
      client.close();
      const disk = await DiskImage.open(path, { formats, readOnly: false });
      const found = Buffer.alloc(BLOCK);
      for (const [offset, round] of durable) {
        await disk.pread(found, offset);
        expect(found.equals(stamped(round))).toBe(true);
      }
      for (let i = 0; i < 50; i++) {
        await disk.pread(found, 8 * MiB + i * BLOCK);
        expect(found.equals(stamped(999)) || found.equals(Buffer.alloc(BLOCK))).toBe(true);
      }
      await disk.close();
      const again = await start(path, folder); // the dead server's socket is in the way
      again.child.kill('SIGTERM');
      expect(await again.exited).toBe(0);
    }),
  );

  it.each(['SIGTERM', 'SIGINT'] as const)(
    '%s: what was answered is there, the lock and the socket are gone',
    (signal) =>
      withVvd(async (path, folder) => {
        const { child, exited, connect } = await start(path, folder);
        const clients = await Promise.all([connect(), connect()]);
        const [writer] = clients;
        expect(await writer?.ask({ type: CMD_WRITE, offset: MiB, length: BLOCK, data: stamped(5) })).toBe(0);
        writer?.sendRequest({ type: CMD_WRITE, length: MiB, data: Buffer.alloc(1000) });
        child.kill(signal);
        expect(await exited).toBe(0);
        await Promise.all(clients.map((client) => client.closed));
        expect(existsSync(join(folder, 'nbd.sock'))).toBe(false);
        const disk = await DiskImage.open(path, { formats, readOnly: false });
        const found = Buffer.alloc(BLOCK);
        await disk.pread(found, MiB);
        expect(found.equals(stamped(5))).toBe(true);
        expect((await disk.top.info()).dirty).toBe(false);
        await disk.close();
      }),
  );
});

/** A disk that another server has, whose flush ends when it is let. */
class SlowFlush extends ForwardingDevice {
  flushed = 0;
  asked = 0;
  let: () => void = () => undefined;

  override async flush(): Promise<void> {
    this.asked++;
    await new Promise<void>((resolve) => {
      this.let = resolve;
    });
    await this.inner.flush();
    this.flushed++;
  }
}

describe('SIGTERM while what was written is not durable yet', () => {
  it.each([
    ['waits for the flush, as long as it takes', false, 0],
    ['a second one cuts it off', true, 130],
  ])('%s', async (_, again, status) => {
    const device = new SlowFlush(MemoryDevice.create(MiB));
    await withServer([exported(device)], ({ server: storage }) =>
      withDir(
        async ({ path: folder }) => {
          const { child, exited, connect } = await start(storage.uri(''), folder, '-f', 'raw');
          const client = await connect();
          expect(await client.ask({ type: CMD_WRITE, length: BLOCK, data: stamped(1) })).toBe(0);
          client.close();
          child.kill('SIGTERM');
          while (device.asked === 0) await delay(5);
          await delay(again ? 50 : 3500); // longer than other verbs are waited for
          expect(child.exitCode).toBe(null);
          if (again) child.kill('SIGTERM');
          else device.let();
          expect(await exited).toBe(status);
          expect(device.flushed).toBe(again ? 0 : 1);
        },
        { unsafeCleanup: true, prefix: 'vimg-serve' },
      ).finally(() => device.let()),
    );
  });
});
