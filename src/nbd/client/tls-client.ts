/** TLS of the client: which certificates or keys, and the change from a plain socket to a protected one. */
import { isIP, type Socket } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { PSK_CIPHERS, readPskKey, readTlsFolder } from '../tls-files.ts';
import type { TlsFiles } from './uri.ts';

/**
 * Starts TLS over a socket that is connected. The server's certificate is verified against the folder's authority (or
 * the system's), and has to name `host`; with a key file both sides prove that they know the key.
 *
 * @throws VimgError `NOT_FOUND`, `READ_ONLY`, `USAGE` for files that cannot be read or used
 */
export async function startTls(socket: Socket, files: TlsFiles, host: string): Promise<TLSSocket> {
  const options = await optionsOf(files, host);
  return connect({ ...options, socket });
}

async function optionsOf(files: TlsFiles, host: string): Promise<ConnectionOptions> {
  if (files.pskFile !== undefined) {
    const { user, key } = await readPskKey(files.pskFile, files.pskUser);
    return {
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2', // Node has keys that both know before only up to 1.2
      ciphers: PSK_CIPHERS,
      checkServerIdentity: () => undefined, // the key is the identity
      pskCallback: () => ({ psk: key, identity: user }),
    };
  }
  const wanted = files.hostName ?? host;
  // RFC 6066: an address is not sent as the name of a server; Node verifies it against the certificate as `host`.
  const named = {
    minVersion: 'TLSv1.2',
    host: wanted,
    ...(isIP(wanted) === 0 ? { servername: wanted } : {}),
    rejectUnauthorized: true,
  } as const;
  if (files.certificates === undefined) return named;
  const { authority, certificate, key } = await readTlsFolder(files.certificates, 'client');
  return { ...named, ca: authority, ...(certificate && key ? { cert: certificate, key } : {}) };
}
