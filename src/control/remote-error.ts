/** Errors on their way through a control socket: they arrive as they were thrown, with code, place and hint. */
import { ERROR_CODES, type ErrorCode, fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import type { Message } from './message.ts';

/** What JSON-RPC calls a server error; the real code is in `data`. */
const SERVER_ERROR = -32000;

export function errorMessage(id: number, error: unknown): Message {
  const known = isVimgError(error) ? error : fromSystemError(error, { op: 'do what was asked' });
  return { id, error: { code: SERVER_ERROR, message: known.message, data: known.toJSON() } };
}

export function remoteError({ message, data }: NonNullable<Message['error']>): VimgError {
  const { code, op, path, offset, hint } = (typeof data === 'object' && data !== null ? data : {}) as Record<
    string,
    unknown
  >;
  const known = typeof code === 'string' && code in ERROR_CODES ? (code as ErrorCode) : 'IO';
  return new VimgError(known, String(message), {
    ...(typeof op === 'string' ? { op } : {}),
    ...(typeof path === 'string' ? { path } : {}),
    ...(typeof offset === 'number' ? { offset } : {}),
    ...(typeof hint === 'string' ? { hint } : {}),
  });
}
