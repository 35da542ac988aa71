/** Payloads of structured and extended replies, read and verified ("Structured reply types"). */
import { printableMessage, violation } from './client-error.ts';

/** @throws VimgError `IO` for a payload of another shape */
export function holeIn(payload: Buffer, path: string): { offset: number; length: number } {
  if (payload.length !== 12) throw violation(path, 'a hole of a wrong shape');
  return { offset: Number(payload.readBigUInt64BE(0)), length: payload.readUInt32BE(8) };
}

/**
 * The first extent of a BLOCK_STATUS chunk. A server may describe more than was asked for: it is cut.
 *
 * @throws VimgError `IO` for a payload of another shape
 */
export function statusIn(
  payload: Buffer,
  isExtended: boolean,
  asked: number,
  path: string,
): { context: number; length: number; flags: number } {
  const [head, size] = isExtended ? [8, 16] : [4, 8];
  const count = (payload.length - head) / size;
  if (!Number.isInteger(count) || count < 1 || (isExtended && payload.readUInt32BE(4) !== count)) {
    throw violation(path, 'extents of a wrong shape');
  }
  const context = payload.readUInt32BE(0);
  const length = isExtended ? Number(payload.readBigUInt64BE(8)) : payload.readUInt32BE(4);
  const flags = isExtended ? Number(payload.readBigUInt64BE(16)) : payload.readUInt32BE(8);
  if (length === 0) throw violation(path, 'an extent of no bytes');
  return { context, length: Math.min(length, asked), flags };
}

/**
 * @param isKnown the shape is defined; of other errors only the value is taken
 * @throws VimgError `IO` for a payload of another shape
 */
export function errorIn(payload: Buffer, isKnown: boolean, path: string): { value: number; message: string } {
  if (payload.length < 6) throw violation(path, 'an error of a wrong shape');
  const value = payload.readUInt32BE(0);
  if (value === 0) throw violation(path, 'an error that is none');
  const length = payload.readUInt16BE(4);
  if (!isKnown) return { value, message: '' };
  if (6 + length > payload.length) throw violation(path, 'an error whose message passes its end');
  return { value, message: printableMessage(payload.toString('utf8', 6, 6 + length)) };
}
