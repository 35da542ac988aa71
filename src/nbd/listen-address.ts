/** Where a server listens: a Unix socket or a TCP address; and the URIs by which clients find its exports there. */
import { VimgError } from '../base/errors.ts';

export interface UnixAddress {
  readonly socketPath: string;
}

export interface TcpAddress {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
}

/** A socket that somebody else bound and handed over, with where clients find it. */
export type InheritedAddress = { readonly fd: number } & (UnixAddress | TcpAddress);

export type ListenAddress = UnixAddress | TcpAddress | InheritedAddress;

/** The port that IANA assigned to NBD. */
export const NBD_PORT = 10_809;
export const LOOPBACK = '127.0.0.1';
/** Bytes of a Unix socket's path, one of 108 being the NUL (unix(7)). */
const SOCKET_PATH_MAX = 107;

/**
 * Reads `HOST:PORT`, `HOST`, `:PORT`, `[IPV6]:PORT`. Without a host: the loopback address; without a port: 10809.
 *
 * @throws VimgError `USAGE`
 */
export function parseTcpAddress(text: string): TcpAddress {
  const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^:[\]]*))(?::([0-9]{1,5}))?$/.exec(text);
  const [, literal, name = '', digits] = match ?? [];
  const port = digits === undefined ? NBD_PORT : Number(digits);
  if (!match || text === '' || port > 65_535) {
    throw new VimgError('USAGE', `'${text}' is not an address to listen at`, {
      hint: 'write HOST:PORT, as in localhost:10809 or [::1]:10809',
    });
  }
  return { host: literal ?? (name === '' ? LOOPBACK : name), port };
}

/** @throws VimgError `USAGE` for a path that no socket can have */
export function unixAddress(socketPath: string): UnixAddress {
  const length = Buffer.byteLength(socketPath);
  if (length === 0 || length > SOCKET_PATH_MAX || socketPath.includes('\0')) {
    throw new VimgError('USAGE', `'${socketPath}' cannot be the path of a socket`, {
      hint: `it has ${length} bytes; up to ${SOCKET_PATH_MAX} are possible`,
    });
  }
  return { socketPath };
}

/** The address of a socket that was passed to us; where one of TCP is bound is seen once we listen. */
export function inheritedAddress(socket: { fd: number; socketPath: string | undefined }): InheritedAddress {
  const { fd, socketPath } = socket;
  return socketPath === undefined ? { fd, host: LOOPBACK, port: 0 } : { fd, socketPath };
}

/** Whether other machines can reach it. */
export function isPublic(address: ListenAddress): boolean {
  return 'host' in address && !/^(localhost|127\.[0-9.]+|::1)$/.test(address.host);
}

/** The URI of an export (the NBD project's doc/uri.md). */
export function exportUri(address: ListenAddress, name: string, isProtected = false): string {
  const scheme = isProtected ? 'nbds' : 'nbd';
  const path = encodeURIComponent(name).replaceAll('%2F', '/');
  if ('socketPath' in address) {
    return `${scheme}+unix:///${path}?socket=${encodeURIComponent(address.socketPath).replaceAll('%2F', '/')}`;
  }
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  const port = address.port === NBD_PORT ? '' : `:${address.port}`;
  return `${scheme}://${host}${port}/${path}`;
}
