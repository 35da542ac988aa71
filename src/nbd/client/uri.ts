/**
 * URIs of NBD exports, as the NBD project's doc/uri.md defines them:
 *
 *     nbd://host[:port]/name     nbd+unix:///name?socket=PATH     nbds:// and nbds+unix:// with TLS
 *
 * A URI is also a path of a place (nbd-files.ts), and paths lose doubled slashes: what follows the colon may begin with
 * any number of them.
 */
import { VimgError } from '../../base/errors.ts';
import { NBD_PORT, type TcpAddress, type UnixAddress } from '../listen-address.ts';

/** What a URI says about TLS; names of its parameters are those of libnbd. */
export interface TlsFiles {
  /** Folder with `ca-cert.pem` and, for a client that is known, `client-cert.pem` and `client-key.pem`. */
  readonly certificates?: string;
  /** File of lines `user:hexkey`, as GnuTLS' psktool writes it. */
  readonly pskFile?: string;
  readonly pskUser?: string;
  /** The name that the server's certificate must have. Default: the host. */
  readonly hostName?: string;
}

export interface NbdUri {
  readonly address: UnixAddress | TcpAddress;
  readonly exportName: string;
  /** Present: TLS is required. */
  readonly tls: TlsFiles | undefined;
}

const SCHEME = /^(nbds?)(\+unix)?:\/*/i;
const AUTHORITY = /^(?:([^@/?#]*)@)?(?:\[([0-9A-Fa-f:.%]+)\]|([^:/?#[\]@]*))(?::([0-9]{1,5}))?(?=\/|$)/;
const PARAMETERS: readonly string[] = ['socket', 'tls-certificates', 'tls-psk-file', 'tls-hostname'];

/** @throws VimgError `USAGE` for what is no such URI */
export function parseNbdUri(text: string): NbdUri {
  const scheme = SCHEME.exec(text);
  if (!scheme) throw refused(text, 'it does not begin with nbd:, nbds:, nbd+unix: or nbds+unix:');
  const rest = text.slice(scheme[0].length);
  if (rest.includes('#')) throw refused(text, 'a fragment has no meaning');
  const question = rest.indexOf('?');
  const path = question < 0 ? rest : rest.slice(0, question);
  const parameters = parametersOf(text, question < 0 ? '' : rest.slice(question + 1));
  const isTls = scheme[1]?.toLowerCase() === 'nbds';
  const isUnix = scheme[2] !== undefined;
  const authority = isUnix ? undefined : AUTHORITY.exec(path);
  if (!isUnix && !authority) throw refused(text, 'host and port are not understood');
  const user = authority?.[1];
  if (user !== undefined && !isTls) throw refused(text, 'a user name needs TLS (nbds:)');
  return {
    address: isUnix
      ? unixAddressOf(text, parameters)
      : tcpAddressOf(text, authority as RegExpExecArray, parameters),
    exportName: decoded(text, isUnix ? path : path.slice(authority?.[0].length).replace(/^\//, '')),
    tls: isTls ? tlsOf(parameters, user) : refuseTls(text, parameters),
  };
}

/** The URI without doubt or default, which no treatment as a path changes; the same for the same export. */
export function canonicalUri({ address, exportName, tls }: NbdUri): string {
  const name = encodePart(exportName);
  const parameters: [string, string][] = [];
  if ('socketPath' in address) parameters.push(['socket', address.socketPath]);
  if (tls?.certificates !== undefined) parameters.push(['tls-certificates', tls.certificates]);
  if (tls?.pskFile !== undefined) parameters.push(['tls-psk-file', tls.pskFile]);
  if (tls?.hostName !== undefined) parameters.push(['tls-hostname', tls.hostName]);
  const query = parameters.map(([key, value]) => `${key}=${encodePart(value)}`).join('&');
  const scheme = tls ? 'nbds' : 'nbd';
  const suffix = `${name}${query === '' ? '' : `?${query}`}`;
  if ('socketPath' in address) return `${scheme}+unix:///${suffix}`;
  const host = address.host.includes(':') ? `[${address.host}]` : encodeHost(address.host);
  const user = tls?.pskUser === undefined ? '' : `${encodePart(tls.pskUser)}@`;
  return `${scheme}://${user}${host}:${address.port}/${suffix}`;
}

/** Dots and slashes too, so that no part reads as `..` or as a folder; and what ends a quoted word of a shell. */
function encodePart(text: string): string {
  return encodeURIComponent(text).replaceAll('.', '%2E').replaceAll("'", '%27');
}

function encodeHost(host: string): string {
  return encodeURIComponent(host).replaceAll("'", '%27');
}

function unixAddressOf(text: string, parameters: ReadonlyMap<string, string>): UnixAddress {
  const socketPath = parameters.get('socket');
  if (socketPath === undefined || socketPath === '') throw refused(text, 'it needs ?socket=PATH');
  return { socketPath };
}

function tcpAddressOf(
  text: string,
  authority: RegExpExecArray,
  parameters: ReadonlyMap<string, string>,
): TcpAddress {
  if (parameters.has('socket')) throw refused(text, 'a socket needs nbd+unix:');
  const port = authority[4] === undefined ? NBD_PORT : Number(authority[4]);
  if (port === 0 || port > 65_535) throw refused(text, `there is no port ${port}`);
  const host = decoded(text, authority[2] ?? authority[3] ?? '');
  return { host: host === '' ? 'localhost' : host, port };
}

function tlsOf(parameters: ReadonlyMap<string, string>, user: string | undefined): TlsFiles {
  const certificates = parameters.get('tls-certificates');
  const pskFile = parameters.get('tls-psk-file');
  const hostName = parameters.get('tls-hostname');
  return {
    ...(certificates === undefined ? {} : { certificates }),
    ...(pskFile === undefined ? {} : { pskFile }),
    ...(hostName === undefined ? {} : { hostName }),
    ...(user === undefined ? {} : { pskUser: decodeURIComponent(user) }),
  };
}

function refuseTls(text: string, parameters: ReadonlyMap<string, string>): undefined {
  for (const key of parameters.keys()) {
    if (key.startsWith('tls-')) throw refused(text, `${key} needs TLS (nbds:)`);
  }
}

function parametersOf(text: string, query: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const part of query.split('&')) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    const key = equals < 0 ? part : part.slice(0, equals);
    if (!PARAMETERS.includes(key)) throw refused(text, `the parameter '${key}' is not known`);
    if (found.has(key)) throw refused(text, `'${key}' is there twice`);
    found.set(key, decoded(text, equals < 0 ? '' : part.slice(equals + 1)));
  }
  return found;
}

function decoded(text: string, part: string): string {
  try {
    const plain = decodeURIComponent(part);
    if (!plain.includes('\0')) return plain;
  } catch {
    // the error below says it
  }
  throw refused(text, `'${part}' is not percent-encoded UTF-8`);
}

function refused(text: string, why: string): VimgError {
  return new VimgError('USAGE', `'${text}' is not the URI of an NBD export: ${why}`, {
    hint: 'write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH',
  });
}
