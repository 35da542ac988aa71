import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import { dir } from 'tmp-promise';
import { describe, it } from 'vitest';
import { FaultDevice } from '../../../src/device/fault-device.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { NbdDevice } from '../../../src/nbd/client/nbd-device.ts';
import { NbdServer } from '../../../src/nbd/server.ts';
import { deviceConformance, type MadeDevice, type TestApi } from '../../../src/testing/index.ts';
import { requireTool } from '../../reference-tools.ts';
import { exported } from '../served-device.ts';

const SIZE = 256 * 1024;
const api: TestApi = { describe, it, fc };

function uriOf(socketPath: string): string {
  return `nbd+unix:///?socket=${encodeURIComponent(socketPath)}`;
}

async function madeOverOurServer(): Promise<MadeDevice> {
  const folder = await dir({ prefix: 'vimg-nbd-client-', unsafeCleanup: true });
  const socketPath = join(folder.path, 'nbd.sock');
  const faults = new FaultDevice(MemoryDevice.create(SIZE, { growable: false }));
  const server = await NbdServer.listen({ socketPath }, { exports: [exported(faults)] });
  return {
    device: await NbdDevice.open(uriOf(socketPath), { readOnly: false }),
    failNextFlush: () => faults.add({ on: 'flush' }),
    failNextRead: () => faults.add({ on: 'read' }),
    reopenReadOnly: () => NbdDevice.open(uriOf(socketPath), { readOnly: true }),
    cleanup: async () => {
      await server.close();
      await folder.cleanup();
    },
  };
}

/** A reference server in the foreground, ended with the test. */
async function madeOver(command: (socketPath: string, file: string) => string[]): Promise<MadeDevice> {
  const folder = await dir({ prefix: 'vimg-nbd-client-', unsafeCleanup: true });
  const socketPath = join(folder.path, 'nbd.sock');
  const file = join(folder.path, 'disk.raw');
  await writeFile(file, '');
  await truncate(file, SIZE);
  const [program = '', ...args] = command(socketPath, file);
  const server = spawn(program, args, { stdio: 'ignore' });
  await untilListening(socketPath, server);
  return {
    device: await NbdDevice.open(uriOf(socketPath), { readOnly: false }),
    reopenReadOnly: () => NbdDevice.open(uriOf(socketPath), { readOnly: true }),
    cleanup: async () => {
      server.kill();
      if (server.exitCode === null && server.signalCode === null) await once(server, 'exit');
      await folder.cleanup();
    },
  };
}

async function untilListening(path: string, server: ChildProcess): Promise<void> {
  while (server.exitCode === null) {
    const isThere = await new Promise<boolean>((resolve) => {
      const socket = connect(path, () => {
        socket.destroy();
        resolve(true);
      }).on('error', () => resolve(false));
    });
    if (isThere) return;
    await sleep(10);
  }
}

deviceConformance(api, 'NbdDevice over our server', madeOverOurServer);

describe.skipIf(requireTool('qemu-nbd'))('with qemu-nbd', () => {
  deviceConformance(
    api,
    'NbdDevice',
    () => madeOver((socket, file) => ['qemu-nbd', '-f', 'raw', '-t', '-e', '8', '-k', socket, file]),
    { runs: 5 },
  );
});

describe.skipIf(requireTool('nbdkit'))('with nbdkit', () => {
  deviceConformance(
    api,
    'NbdDevice',
    () => madeOver((socket) => ['nbdkit', '-f', '-U', socket, 'memory', `${SIZE}`]),
    { runs: 5 },
  );
  deviceConformance(
    api,
    'NbdDevice over blocks of 4096 bytes',
    () =>
      madeOver((socket) => [
        ...['nbdkit', '-f', '-U', socket, '--filter=blocksize-policy', 'memory', `${SIZE}`],
        ...['blocksize-minimum=4096', 'blocksize-maximum=65536', 'blocksize-error-policy=error'],
      ]),
    { runs: 5 },
  );
});
