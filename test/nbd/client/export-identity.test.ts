import { link, rename, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { withDir } from 'tmp-promise';
import { describe, expect, it } from 'vitest';
import { fileIdentity } from '../../../src/device/files.ts';
import { exportIdentity } from '../../../src/nbd/client/export-identity.ts';
import { nbdPath } from '../../../src/nbd/client/nbd-files.ts';
import { parseNbdUri } from '../../../src/nbd/client/uri.ts';

function identityOf(uri: string): Promise<string> {
  return exportIdentity(parseNbdUri(uri));
}

function ofSocket(path: string, exportName = ''): string {
  return `nbd+unix:///${exportName}?socket=${encodeURIComponent(path)}`;
}

describe('the identity of an export', () => {
  it.each([
    ['nbd://localhost/a', 'nbd://LOCALHOST:10809/a'],
    ['nbd://127.0.0.1/a', 'nbd://[::1]/a'],
    ['nbd://example.test/a', 'nbds://user@Example.Test:10809/a?tls-psk-file=/k'],
    ['nbd:example.test/a%2fb', 'nbd://example.test/a/b'],
    ['nbd+unix:///a?socket=/nowhere/s', 'nbds+unix:///a?socket=/nowhere/./s'],
  ])('%s is %s', async (one, other) => {
    expect(await identityOf(one)).toBe(await identityOf(other));
  });

  it.each([
    ['nbd://localhost/a', 'nbd://localhost/b'],
    ['nbd://localhost/a', 'nbd://localhost:10810/a'],
    ['nbd://localhost/a', 'nbd://example.test/a'],
    ['nbd://localhost/', 'nbd+unix:///?socket=localhost'],
    ['nbd+unix:///a?socket=/nowhere/s', 'nbd+unix:///a?socket=/nowhere/t'],
    ['nbd+unix:///a?socket=/nowhere/s', 'nbd+unix:///b?socket=/nowhere/s'],
  ])('%s is not %s', async (one, other) => {
    expect(await identityOf(one)).not.toBe(await identityOf(other));
  });

  it('is that of the socket, under all its names, and nobody is asked', () =>
    withDir(
      async ({ path }) => {
        let connections = 0;
        const [first, second, linked, moved] = ['a', 'b', 'c', 'd'].map((name) => join(path, name)) as [
          string,
          string,
          string,
          string,
        ];
        const servers = [first, second].map(() => createServer(() => connections++));
        await Promise.all(
          servers.map(
            (server, index) => new Promise<void>((done) => server.listen([first, second][index], done)),
          ),
        );
        await symlink(first, linked);
        await link(first, moved);
        const identity = await identityOf(ofSocket(first));
        expect(await identityOf(ofSocket(linked))).toBe(identity);
        expect(await identityOf(ofSocket(moved))).toBe(identity);
        expect(await identityOf(ofSocket(second))).not.toBe(identity);
        await rename(first, `${first}-moved`);
        expect(await identityOf(ofSocket(moved))).toBe(identity);
        expect(await fileIdentity(nbdPath(ofSocket(moved)))).toEqual({ kind: 'device', identity });
        expect(connections).toBe(0);
        for (const server of servers) server.close();
      },
      { unsafeCleanup: true, prefix: 'vimg-identity' },
    ));
});
