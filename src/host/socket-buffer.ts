/** The size of a socket's send buffer, which Node does not set (socket(7), SO_SNDBUF). */
import type { Socket } from 'node:net';
import { libc } from './libc.ts';

const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

/**
 * Asks for room for `bytes` that the peer did not take yet; the system gives what it allows. Without it a large reply
 * over a Unix socket goes out in as many steps as the default has room for, each with a wait for the peer.
 */
export function askForSendBuffer(socket: Socket, bytes: number): void {
  const { _handle: handle } = socket as unknown as { _handle?: { readonly fd?: number } };
  const native = libc();
  if (native === undefined || handle?.fd === undefined || handle.fd < 0) return;
  native.setsockopt(handle.fd, SOL_SOCKET, SO_SNDBUF, Int32Array.of(bytes), 4);
}
