/**
 * CRC32C (Castagnoli), the checksum of every VVD structure.
 *
 * Metadata uses crc-32, which is plain JavaScript and loads in a millisecond. Bulk data (sealed blocks) uses the
 * native @node-rs/crc32 when it loads, ten times as fast; a test holds the two against each other.
 */
import { createRequire } from 'node:module';
import crc32cTable from 'crc-32/crc32c.js';

type BulkCrc = (data: Uint8Array, initial?: number) => number;

let bulk: BulkCrc | undefined;

/** CRC32C of a piece of metadata; `seed` continues an earlier one. */
export function crc32c(data: Uint8Array, seed = 0): number {
  return crc32cTable.buf(data, seed) >>> 0;
}

/** CRC32C of a large piece of data, by the fastest implementation that this machine has. */
export function crc32cBulk(data: Uint8Array): number {
  bulk ??= loadBulk();
  return bulk(data) >>> 0;
}

function loadBulk(): BulkCrc {
  try {
    return (createRequire(import.meta.url)('@node-rs/crc32') as { crc32c: BulkCrc }).crc32c;
  } catch {
    return crc32c; // no native build for this platform: slower, same result
  }
}
