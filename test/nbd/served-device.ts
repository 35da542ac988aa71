/** Servers for tests: a device at a socket in a folder of its own, everything closed at the end. */
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import type { Export } from '../../src/nbd/export.ts';
import { NbdServer, type NbdServerOptions } from '../../src/nbd/server.ts';
import { RawClient } from './raw-client.ts';

export const MiB: number = 1024 * 1024;

/** A device under a name. */
export function exported(device: BlockDevice, name = ''): Export {
  return { name, device, fastZeroUnit: 4096 };
}

export interface Served {
  readonly server: NbdServer;
  /** Connects; closed at the end. */
  readonly connect: () => Promise<RawClient>;
}

export async function withServer(
  exports: readonly Export[],
  work: (served: Served) => Promise<void>,
  options: Omit<NbdServerOptions, 'exports'> = {},
): Promise<void> {
  await withDir(
    async ({ path }) => {
      const server = await NbdServer.listen({ socketPath: join(path, 'nbd.sock') }, { exports, ...options });
      const clients: RawClient[] = [];
      const connect = async (): Promise<RawClient> => {
        const client = await RawClient.connect(server.address);
        clients.push(client);
        return client;
      };
      try {
        await work({ server, connect });
      } finally {
        for (const client of clients) client.close();
        await server.close();
      }
    },
    { unsafeCleanup: true, prefix: 'vimg-nbd' },
  );
}

/** A device of 4 MiB, all zero. */
export function memory(): MemoryDevice {
  return MemoryDevice.create(4 * MiB, { growable: false });
}

export function filled(length: number, byte: number): Buffer {
  return Buffer.alloc(length, byte);
}

/** Runs `work` with a client in the transmission phase of `device`. */
export function serving(
  device: BlockDevice,
  choice: Parameters<RawClient['enter']>[0],
  work: (client: RawClient) => Promise<void>,
): Promise<void> {
  return withServer([exported(device)], async ({ connect }) => {
    const client = await connect();
    await client.enter(choice);
    await work(client);
  });
}
