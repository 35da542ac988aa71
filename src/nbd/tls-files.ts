/**
 * Certificates and keys in files, under the names that QEMU and libnbd give them: a folder with `ca-cert.pem`,
 * `server-cert.pem`, `server-key.pem`, `client-cert.pem`, `client-key.pem`; or a file of lines `user:hexkey`.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromSystemError, VimgError } from '../base/errors.ts';

export interface TlsMaterial {
  /** Whom certificates of the other side must come from. */
  readonly authority: Buffer;
  readonly certificate: Buffer | undefined;
  readonly key: Buffer | undefined;
}

export interface PskKey {
  readonly user: string;
  readonly key: Buffer;
}

/** Suites with keys that both know before, and forward secrecy first. */
export const PSK_CIPHERS = 'ECDHE-PSK:DHE-PSK:PSK:!aNULL:!eNULL:@SECLEVEL=1';
/** Bytes of a key; RFC 4279 asks for 64 at least to be taken. */
const KEY_MAX = 64;

/** @throws VimgError `NOT_FOUND`, `READ_ONLY` without permission */
export async function readTlsFolder(folder: string, side: 'client' | 'server'): Promise<TlsMaterial> {
  const certificate = await readIfThere(join(folder, `${side}-cert.pem`));
  const key = certificate && (await read(join(folder, `${side}-key.pem`)));
  return { authority: await read(join(folder, 'ca-cert.pem')), certificate, key };
}

/** Every key in a file, by user. @throws VimgError `NOT_FOUND`, `USAGE` for a line that is none */
export async function readPskKeys(path: string): Promise<Map<string, Buffer>> {
  const keys = new Map<string, Buffer>();
  for (const line of (await read(path)).toString('utf8').split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [, user, hex] = /^([^:]+):((?:[0-9A-Fa-f]{2})+)$/.exec(line.trimEnd()) ?? [];
    if (user === undefined || hex === undefined || hex.length > 2 * KEY_MAX) {
      throw new VimgError('USAGE', 'A line of the key file is not USER:HEXKEY', { path });
    }
    keys.set(user, Buffer.from(hex, 'hex'));
  }
  return keys;
}

/** The key of a user; of the only one, when none is named. @throws VimgError `NOT_FOUND`, `USAGE` */
export async function readPskKey(path: string, user: string | undefined): Promise<PskKey> {
  const keys = await readPskKeys(path);
  const name = user ?? (keys.size === 1 ? [...keys.keys()][0] : undefined);
  if (name === undefined) {
    throw new VimgError('USAGE', `The key file has ${keys.size} users`, {
      path,
      hint: 'name one: nbds://USER@HOST',
    });
  }
  const key = keys.get(name);
  if (!key) throw new VimgError('NOT_FOUND', `The key file has no user '${name}'`, { path });
  return { user: name, key };
}

async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw fromSystemError(error, { op: 'read', path });
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fromSystemError(error, { op: 'read', path });
  }
}
