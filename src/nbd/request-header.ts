/** The header of a request, read where it lies: compact, or extended once the client chose that. */
import {
  CMD_FLAG_PAYLOAD_LEN,
  CMD_WRITE,
  EXTENDED_REQUEST,
  EXTENDED_REQUEST_MAGIC,
  REQUEST,
  REQUEST_MAGIC,
} from './protocol.ts';
import type { Request } from './request.ts';
import { PAYLOAD_MAX } from './server-limits.ts';

const HIGH = 0x1_0000_0000;

/** Bytes of a header. */
export function headerBytes(extended: boolean): number {
  return extended ? EXTENDED_REQUEST.size : REQUEST.size;
}

/**
 * Fills `request` from the header at `at`.
 *
 * @returns false for what cannot be followed any further: a wrong magic; with extended headers, a payload longer than
 *   the server ever takes ("Request message")
 */
export function readHeader(request: Request, buffer: Buffer, at: number, extended: boolean): boolean {
  if (buffer.readUInt32BE(at) !== (extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC)) return false;
  request.flags = buffer.readUInt16BE(at + 4);
  request.type = buffer.readUInt16BE(at + 6);
  request.cookieHigh = buffer.readUInt32BE(at + 8);
  request.cookieLow = buffer.readUInt32BE(at + 12);
  request.offsetHigh = buffer.readUInt32BE(at + 16);
  request.offsetLow = buffer.readUInt32BE(at + 20);
  request.offset = request.offsetHigh * HIGH + request.offsetLow;
  const first = buffer.readUInt32BE(at + 24);
  if (!extended) {
    request.length = first;
    request.payloadLength = request.type === CMD_WRITE ? first : 0;
    return true;
  }
  const length = first * HIGH + buffer.readUInt32BE(at + 28);
  const hasPayload = (request.flags & CMD_FLAG_PAYLOAD_LEN) !== 0;
  request.payloadLength = hasPayload ? length : 0;
  // The length of other payloads says nothing about the export; theirs is inside.
  request.length = hasPayload && request.type !== CMD_WRITE ? 0 : length;
  return request.payloadLength <= PAYLOAD_MAX;
}
