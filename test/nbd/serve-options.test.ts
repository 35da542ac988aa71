/** Options of `vimg serve` that matter to clients: past states, how many connections, sockets that were passed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { createSnapshot } from '../../src/image/snapshot.ts';
import { exportDisk } from '../../src/nbd/export.ts';
import type { ListenAddress } from '../../src/nbd/listen-address.ts';
import { CMD_FLUSH, CMD_READ, CMD_WRITE, NBD_EPERM, OPT_GO } from '../../src/nbd/protocol.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { requireTool } from '../reference-tools.ts';
import { infoData, RawClient } from './raw-client.ts';
import { filled, MiB, withServer } from './served-device.ts';

async function withVvd(work: (path: string, folder: string) => Promise<void>): Promise<void> {
  await withDir(
    async ({ path: folder }) => {
      const path = join(folder, 'disk.vvd');
      await createImage(path, { formats, format: 'vvd', size: MiB });
      await work(path, folder);
    },
    { unsafeCleanup: true, prefix: 'vimg-serve' },
  );
}

/** Runs a server while `work` does something; resolves when it has ended. */
async function whileRunning(child: ChildProcess, work: () => Promise<void>): Promise<void> {
  const exited = once(child, 'exit');
  try {
    await work();
  } finally {
    child.kill();
    await exited;
  }
}

/** Resolves once the server has said where it listens. */
async function announced(child: ChildProcess): Promise<string> {
  const [said] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  return said.toString();
}

function serve(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [BUILT_TOOL, 'serve', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function entered(address: ListenAddress): Promise<RawClient> {
  const client = await RawClient.connect(address);
  await client.enter({ structured: false });
  return client;
}

async function firstByte(client: RawClient): Promise<number> {
  client.sendRequest({ type: CMD_READ, length: 1 });
  await client.simpleReply();
  return (await client.read(1))[0] ?? -1;
}

describe('vimg serve', () => {
  it('--snapshot serves a past state, to read only', () =>
    withVvd(async (path, folder) => {
      const write = async (byte: number): Promise<void> => {
        const disk = await DiskImage.open(path, { formats, readOnly: false });
        await disk.pwrite(filled(4096, byte), 0);
        await disk.close();
      };
      await write(1);
      await createSnapshot([path], 'then', { formats });
      await write(2);
      const socketPath = join(folder, 'nbd.sock');
      const child = serve(path, '--snapshot', 'then', '--socket', socketPath);
      await whileRunning(child, async () => {
        await announced(child);
        const client = await entered({ socketPath });
        expect(await firstByte(client)).toBe(1);
        expect(await client.ask({ type: CMD_WRITE, length: 1, data: filled(1, 9) })).toBe(NBD_EPERM);
        client.close();
        await write(3); // the disk itself stays free
      });
    }));

  it('--shared 1: no second client', () =>
    withVvd(async (path, folder) => {
      const socketPath = join(folder, 'nbd.sock');
      const child = serve(path, '--shared', '1', '--socket', socketPath);
      await whileRunning(child, async () => {
        await announced(child);
        const first = await entered({ socketPath });
        const second = await RawClient.connect({ socketPath });
        await second.closed;
        expect(await first.ask({ type: CMD_FLUSH })).toBe(0);
        first.close();
      });
    }));
});

/** A socket that listens, as a service manager makes it; its descriptor. */
async function listening(where: string | number): Promise<{ server: Server; fd: number }> {
  const server = createServer();
  server.listen(typeof where === 'string' ? { path: where } : { port: where, host: '127.0.0.1' });
  await once(server, 'listening');
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  return { server, fd };
}

/** Starts `vimg serve` as a service manager does: the descriptors from 3 on, and variables that name the process. */
function activated(path: string, descriptors: readonly number[], more = ''): ChildProcess {
  const variables = `LISTEN_PID=$$ LISTEN_FDS=${descriptors.length} LISTEN_FDNAMES=one:two`;
  const command = `exec env ${variables} "$0" "$@" ${more}`;
  return spawn('sh', ['-c', command, process.execPath, BUILT_TOOL, 'serve', path], {
    stdio: ['ignore', 'pipe', 'pipe', ...descriptors],
  });
}

async function complaint(child: ChildProcess): Promise<string> {
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(child, 'close');
  return text;
}

describe('sockets passed by a service manager', () => {
  it('a Unix socket and one of TCP', () =>
    withVvd(async (path, folder) => {
      const socketPath = join(folder, 'passed.sock');
      const unix = await listening(socketPath);
      const tcp = await listening(0);
      const { port } = tcp.server.address() as { port: number };
      const child = activated(path, [unix.fd, tcp.fd]);
      await whileRunning(child, async () => {
        expect(await announced(child)).toContain(`nbd+unix:///?socket=${socketPath}`);
        unix.server.close(); // the service manager takes no connections: ours are accepted by the child
        tcp.server.close();
        const overTcp = await entered({ host: '127.0.0.1', port });
        expect(await overTcp.ask({ type: CMD_WRITE, length: 512, data: filled(512, 7) })).toBe(0);
        expect(await firstByte(overTcp)).toBe(7);
        overTcp.close();
      });
    }));

  it.each([
    ['with an address besides', '--socket x.sock', 'leave out --socket and --listen'],
    ['with a number that is none', '', 'no number of sockets', 'LISTEN_FDS=x'],
    ['with fewer than it says', '', 'is no socket', 'LISTEN_FDS=9'],
  ])('%s: refused', (_, more, expected, variable = 'A=b') =>
    withVvd(async (path, folder) => {
      const { server, fd } = await listening(join(folder, 's.sock'));
      const command = `exec env LISTEN_PID=$$ LISTEN_FDS=1 ${variable} "$0" "$@" ${more}`;
      const child = spawn('sh', ['-c', command, process.execPath, BUILT_TOOL, 'serve', path], {
        stdio: ['ignore', 'pipe', 'pipe', fd],
      });
      expect(await complaint(child)).toContain(expected);
      server.close();
    }),
  );

  it.skipIf(requireTool('systemd-socket-activate', 'nbdinfo'))('by systemd-socket-activate', () =>
    withVvd(async (path, folder) => {
      const socketPath = join(folder, 'systemd.sock');
      const child = spawn(
        'systemd-socket-activate',
        [`--listen=${socketPath}`, process.execPath, BUILT_TOOL, 'serve', path],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      );
      await whileRunning(child, async () => {
        await once(child.stderr as NodeJS.ReadableStream, 'data'); // it listens; the first client starts the server
        await sleep(50);
        const client = await entered({ socketPath });
        expect(await client.ask({ type: CMD_FLUSH })).toBe(0);
        client.close();
      });
    }),
  );
});

it('a disk that grows while it is served: new clients are told, all may use it', () =>
  withVvd(async (path) => {
    const disk = await DiskImage.open(path, { formats, readOnly: false });
    try {
      await withServer([exportDisk(disk, '')], async ({ connect }) => {
        const before = await connect();
        await before.enter({ structured: false });
        const write = { type: CMD_WRITE, offset: 3 * MiB, length: 512, data: filled(512, 5) };
        expect(await before.ask(write)).not.toBe(0);
        await disk.resize(4 * MiB);
        expect(await before.ask(write)).toBe(0);
        const after = await connect();
        await after.greet();
        const [info] = await after.option(OPT_GO, infoData(''));
        expect(info?.data.readBigUInt64BE(2)).toBe(BigInt(4 * MiB));
        after.sendRequest({ type: CMD_READ, offset: 3 * MiB, length: 512 });
        await after.simpleReply();
        expect(await after.read(512)).toEqual(filled(512, 5));
      });
    } finally {
      await disk.close();
    }
  }));
