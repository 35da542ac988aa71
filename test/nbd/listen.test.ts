/** Where a server listens, and how clients find it there (the NBD project's doc/uri.md). */
import { statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { exportUri, isPublic, parseTcpAddress, unixAddress } from '../../src/nbd/listen-address.ts';
import { NbdServer } from '../../src/nbd/server.ts';
import { RawClient } from './raw-client.ts';
import { exported, MiB } from './served-device.ts';

const exports = [exported(MemoryDevice.create(MiB))];

describe('addresses', () => {
  it.each([
    ['localhost:10810', { host: 'localhost', port: 10_810 }],
    ['192.0.2.1', { host: '192.0.2.1', port: 10_809 }],
    [':0', { host: '127.0.0.1', port: 0 }],
    ['[::1]:99', { host: '::1', port: 99 }],
    ['[::]', { host: '::', port: 10_809 }],
  ])('%s', (text, address) => {
    expect(parseTcpAddress(text)).toEqual(address);
  });

  it.each(['', '::1', 'a:b', 'host:65536', 'host:', '[::1', 'host:1:2'])('not %j', (text) => {
    expect(() => parseTcpAddress(text)).toThrow('is not an address');
  });

  it('a path that no socket can have', () => {
    expect(() => unixAddress('')).toThrow('cannot be the path');
    expect(() => unixAddress(`/${'x'.repeat(107)}`)).toThrow('cannot be the path');
    expect(unixAddress(`/${'x'.repeat(106)}`).socketPath).toHaveLength(107);
  });

  it.each([
    [{ host: '127.0.0.1', port: 10_809 }, '', 'nbd://127.0.0.1/', false],
    [{ host: '::', port: 1 }, 'a b/c?', 'nbd://[::]:1/a%20b/c%3F', true],
    [{ host: '192.0.2.1', port: 1 }, 'x', 'nbd://192.0.2.1:1/x', true],
    [{ socketPath: '/run/a b&c' }, 'größe', 'nbd+unix:///gr%C3%B6%C3%9Fe?socket=/run/a%20b%26c', false],
  ])('the URI at %j', (address, name, uri, open) => {
    expect(exportUri(address, name)).toBe(uri);
    expect(isPublic(address)).toBe(open);
  });
});

describe('listening', () => {
  it('TCP, at a free port', async () => {
    const server = await NbdServer.listen({ host: '127.0.0.1', port: 0 }, { exports });
    expect(server.uri('')).toMatch(/^nbd:\/\/127\.0\.0\.1:[0-9]+\/$/);
    const client = await RawClient.connect(server.address);
    await client.enter({ structured: false });
    expect(await client.ask({ type: 3 })).toBe(0);
    client.close();
    await server.close();
  });

  it('a Unix socket is for its owner, replaces a dead one, and is gone afterwards', async () => {
    await withDir(
      async ({ path }) => {
        const socketPath = join(path, 'nbd.sock');
        const first = await NbdServer.listen({ socketPath }, { exports });
        expect(statSync(socketPath).mode & 0o777).toBe(0o600);
        await expect(NbdServer.listen({ socketPath }, { exports })).rejects.toMatchObject({ code: 'EXISTS' });
        await first.close();
        expect(statSync(socketPath, { throwIfNoEntry: false })).toBeUndefined();
      },
      { unsafeCleanup: true },
    );
  });

  it('what is no socket is left alone', async () => {
    await withDir(
      async ({ path }) => {
        const socketPath = join(path, 'disk.vvd');
        writeFileSync(socketPath, 'precious');
        await expect(NbdServer.listen({ socketPath }, { exports })).rejects.toMatchObject({ code: 'EXISTS' });
        expect(statSync(socketPath).size).toBe(8);
        const nowhere = { socketPath: join(path, 'none', 'nbd.sock') };
        await expect(NbdServer.listen(nowhere, { exports })).rejects.toMatchObject({ name: 'VimgError' });
      },
      { unsafeCleanup: true },
    );
  });

  it('a port that is taken', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    await expect(NbdServer.listen({ host: '127.0.0.1', port }, { exports })).rejects.toMatchObject({
      code: 'EXISTS',
    });
    await new Promise((resolve) => other.close(resolve));
  });

  it('two exports of one name', async () => {
    const twice = [...exports, ...exports];
    await expect(NbdServer.listen({ host: '127.0.0.1', port: 0 }, { exports: twice })).rejects.toMatchObject({
      code: 'USAGE',
    });
  });
});
