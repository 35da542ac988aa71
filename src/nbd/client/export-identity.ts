/**
 * Which export a URI means, so that two URIs of the same export are known for that without asking a server: a server may
 * take one client only, and it is ours already.
 *
 * By the server's address and the export's name; protection and credentials change nothing about what is read there. A
 * socket is recognised under every name that it has. The loopback interface counts as one address: that two servers share
 * a port of it, and differ only in `::1` and `127.0.0.1`, is told apart from nothing. Other names of hosts are not resolved.
 */
import { realpath, stat } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { basename, dirname, join, resolve } from 'node:path';
import { fromSystemError } from '../../base/errors.ts';
import { errnoName } from '../../host/libc.ts';
import type { NbdUri } from './uri.ts';

/** The same text for the same export. @throws VimgError `IO`, `READ_ONLY` for a socket that cannot be looked up */
export async function exportIdentity({ address, exportName }: NbdUri): Promise<string> {
  const server =
    'socketPath' in address
      ? await socketIdentity(address.socketPath)
      : `tcp:${hostIdentity(address.host)}:${address.port}`;
  return `nbd:${server}/${encodeURIComponent(exportName)}`;
}

async function socketIdentity(path: string): Promise<string> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `unix:${dev}:${ino}`;
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') throw fromSystemError(error, { op: 'look up the socket', path });
    return `unix:${await futurePath(path)}`;
  }
}

/** Of a socket that is not there: a server may be about to make it. */
async function futurePath(path: string): Promise<string> {
  const whole = resolve(path);
  return join(await realpath(dirname(whole)).catch(() => dirname(whole)), basename(whole));
}

function hostIdentity(host: string): string {
  const name = host.toLowerCase().replace(/\.$/, '');
  const isLoopback = name === 'localhost' || name === '::1' || (isIPv4(name) && name.startsWith('127.'));
  return isLoopback ? 'loopback' : name;
}
