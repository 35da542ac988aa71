/**
 * Messages on a control socket: JSON-RPC 2.0 objects, one a line. A line has up to `MESSAGE_MAX` bytes: who sends a
 * longer one is cut off, so that no peer can fill our memory.
 *
 * Two notifications carry what the specification leaves open: `$/cancelRequest` { id } asks for an end of a request,
 * `$/progress` { token, value } brings a part of its answer; the token is the request's id. (The names are those of the
 * Language Server Protocol.)
 */
import { VimgError } from '../base/errors.ts';

/** Bytes of a message, the end of its line included. */
export const MESSAGE_MAX: number = 1024 * 1024;

export const CANCEL = '$/cancelRequest';
export const PROGRESS = '$/progress';

export interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: unknown;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
}

const NEWLINE = 10;

/** @throws VimgError `LIMIT` for a message that is too long to be sent */
export function encodeMessage(message: Message): string {
  const line = `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`;
  if (Buffer.byteLength(line) <= MESSAGE_MAX) return line;
  throw new VimgError('LIMIT', `A message has more than ${MESSAGE_MAX} bytes`, { op: 'answer' });
}

/** Puts messages together from what a socket brings. */
export class MessageReader {
  #parts: Buffer[] = [];
  #held = 0;

  /** @throws VimgError `LIMIT` for a line that is too long, `INVALID_FORMAT` for one that is no JSON object */
  push(chunk: Buffer): Message[] {
    const messages: Message[] = [];
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      this.#keep(chunk.subarray(from, at));
      messages.push(parse(Buffer.concat(this.#parts).toString('utf8')));
      this.#parts = [];
      this.#held = 0;
      from = at + 1;
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
    return messages;
  }

  #keep(part: Buffer): void {
    this.#held += part.length;
    if (this.#held >= MESSAGE_MAX) throw new VimgError('LIMIT', 'A message is too long', { op: 'read' });
    this.#parts.push(part);
  }
}

function parse(line: string): Message {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new VimgError('INVALID_FORMAT', 'A message is no JSON', { op: 'read', cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value) || !isMessage(value)) {
    throw new VimgError('INVALID_FORMAT', 'A message is no JSON-RPC message', { op: 'read' });
  }
  return value;
}

function isMessage(value: object): value is Message {
  const { id, method, error } = value as Record<string, unknown>;
  if (id !== undefined && !Number.isSafeInteger(id)) return false;
  if (method !== undefined && typeof method !== 'string') return false;
  return error === undefined || (typeof error === 'object' && error !== null);
}
