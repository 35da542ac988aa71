/** UUIDs (RFC 4122): 16 bytes on disk, 36 characters in text. */

import { VimgError } from '../base/errors.ts';
import { type RandomBytes, systemRandom } from '../base/random.ts';

/** The UUID of all zero bits: "none". */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000';

/** A new random UUID (version 4). */
export function newUuid(random: RandomBytes = systemRandom): string {
  const bytes = Uint8Array.from(random(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return formatUuid(bytes);
}

export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, 16).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** @throws VimgError `USAGE` when the text is no UUID */
export function parseUuid(text: string): Uint8Array {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) {
    throw new VimgError('USAGE', `'${text}' is not a UUID`);
  }
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}
