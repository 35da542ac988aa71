/** Ten thousand connections: the limit answers, memory stays bounded, the client that is served goes on. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { expect, it } from 'vitest';
import { formats } from '../../formats/index.ts';
import { createImage } from '../../src/image/create-image.ts';
import { CMD_READ, CMD_WRITE } from '../../src/nbd/protocol.ts';
import { DEFAULT_LIMITS } from '../../src/nbd/server-limits.ts';
import { BUILT_TOOL } from '../cli/session.ts';
import { RawClient } from './raw-client.ts';
import { filled, MiB } from './served-device.ts';

const CONNECTIONS = 10_000;
const BATCH = 500;
/** Peak memory of the server: what one that serves a single client takes is some 70 MiB. */
const RESIDENT_MAX_MIB = 256;

function peakMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+([0-9]+) kB/.exec(status)?.[1]) / 1024;
}

/** Opens connections that say nothing. Resolves to those that the server did not send away. */
async function openBatch(socketPath: string): Promise<RawClient[]> {
  const clients = await Promise.all(
    Array.from({ length: BATCH }, () => RawClient.connect({ socketPath }).catch(() => undefined)),
  );
  const open: RawClient[] = [];
  for (const client of clients) {
    if (client === undefined) continue;
    const greeted = await client.read(18).then(
      () => true,
      () => false,
    );
    if (greeted) open.push(client);
  }
  return open;
}

it('ten thousand connections, most of them held open as long as the server lets them', () =>
  withDir(
    async ({ path: folder }) => {
      const path = join(folder, 'disk.vvd');
      await createImage(path, { formats, format: 'vvd', size: 64 * MiB });
      const socketPath = join(folder, 'nbd.sock');
      const server = spawn(process.execPath, [BUILT_TOOL, 'serve', path, '--socket', socketPath], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = once(server, 'exit');
      await once(server.stdout, 'data');
      const served = await RawClient.connect({ socketPath });
      await served.enter({ structured: false });
      const held: RawClient[] = [];
      for (let opened = 0, round = 1; opened < CONNECTIONS; opened += BATCH, round++) {
        held.push(...(await openBatch(socketPath)));
        expect(await served.ask({ type: CMD_WRITE, length: 512, data: filled(512, round) })).toBe(0);
        served.sendRequest({ type: CMD_READ, length: 512 });
        expect((await served.simpleReply()).error).toBe(0);
        expect((await served.read(512))[0]).toBe(round);
        if (round % 4 === 0) for (const client of held.splice(0)) client.close(); // and others take their place
      }
      expect(peakMiB(server.pid as number)).toBeLessThan(RESIDENT_MAX_MIB);
      expect(held.length).toBeLessThan(DEFAULT_LIMITS.connections);
      for (const client of [served, ...held]) client.close();
      server.kill();
      expect(await exited).toEqual([0, null]);
    },
    { unsafeCleanup: true, prefix: 'vimg-many' },
  ));
