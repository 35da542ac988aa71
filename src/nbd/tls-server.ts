/** TLS of the server: with certificates, or with keys that both sides know; a client that proves neither is not let in. */
import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls';
import { VimgError } from '../base/errors.ts';
import { PSK_CIPHERS, readPskKeys, readTlsFolder } from './tls-files.ts';

/** What every connection of a server is protected with. */
export type ServerTls = TlsOptions;

/**
 * Reads a folder with `server-cert.pem`, `server-key.pem` and `ca-cert.pem`, from which the clients' certificates must
 * come; or, where it has no certificate, with the keys of `keys.psk`.
 *
 * @throws VimgError `NOT_FOUND`, `READ_ONLY`, `USAGE` for files that cannot be read or used
 */
export async function readServerTls(folder: string, handshakeMs: number): Promise<ServerTls> {
  const keyFile = join(folder, 'keys.psk');
  if (!existsSync(join(folder, 'server-cert.pem')) && existsSync(keyFile)) {
    const keys = await readPskKeys(keyFile);
    return {
      handshakeTimeout: handshakeMs,
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2', // Node has keys that both know before only up to 1.2
      ciphers: PSK_CIPHERS,
      pskCallback: (_socket, identity) => keys.get(identity) ?? null,
    };
  }
  const { authority, certificate, key } = await readTlsFolder(folder, 'server');
  if (!certificate || !key) {
    throw new VimgError('NOT_FOUND', 'There is no server-cert.pem, and no keys.psk', {
      op: 'read',
      path: folder,
    });
  }
  const verified = { ca: authority, requestCert: true, rejectUnauthorized: true };
  return { handshakeTimeout: handshakeMs, minVersion: 'TLSv1.2', cert: certificate, key, ...verified };
}

/**
 * Goes on protected over a socket whose client agreed to it. Calls `onSecure` when the client has proven itself; one
 * that does not is cut off.
 */
export function protect(socket: Socket, tls: ServerTls, onSecure: (protected_: TLSSocket) => void): void {
  // A server that never listens: it is what verifies a client's certificate.
  const server = createServer(tls);
  server.once('secureConnection', onSecure);
  server.once('tlsClientError', () => socket.destroy());
  server.emit('connection', socket);
}
