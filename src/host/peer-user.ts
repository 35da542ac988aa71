/** Who is at the other end of a Unix socket (unix(7), SO_PEERCRED), which Node does not tell. */
import type { Socket } from 'node:net';
import { libc } from './libc.ts';

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** `struct ucred`: process, user, group. */
const CREDENTIALS = 3;

/** The user who connected, as the kernel noted it then; undefined where that cannot be known. */
export function peerUser(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { readonly fd?: number } };
  const native = libc();
  if (native === undefined || handle?.fd === undefined || handle.fd < 0) return undefined;
  const credentials = new Int32Array(CREDENTIALS);
  const length = Int32Array.of(credentials.byteLength);
  if (native.getsockopt(handle.fd, SOL_SOCKET, SO_PEERCRED, credentials, length) !== 0) return undefined;
  return credentials[1];
}
