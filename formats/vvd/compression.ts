/** Compressed blocks: one block, one stream, deflate (RFC 1951) or zstd (RFC 8878). */
import { promisify } from 'node:util';
import { deflateRaw, inflateRaw, type ZlibOptions } from 'node:zlib';
import { VimgError } from '../../src/base/errors.ts';
import { crc32c } from '../../src/binary/crc32c.ts';
import { unzstd } from '../../src/binary/zstd.ts';
import { loadZstd } from '../../src/binary/zstd-codec.ts';
import { COMPRESSION_DEFLATE, COMPRESSION_ZSTD } from './layout.ts';

/** Promises of zlib's callbacks; made per call, so that zlib is loaded only when something is compressed. */
function deflate(block: Uint8Array): Promise<Uint8Array> {
  return promisify<Uint8Array, Uint8Array>(deflateRaw)(block);
}

function inflate(stored: Uint8Array, maxOutputLength: number): Promise<Uint8Array> {
  return promisify<Uint8Array, ZlibOptions, Uint8Array>(inflateRaw)(stored, { maxOutputLength });
}

/**
 * The block compressed, or undefined when that saves less than one page.
 *
 * @param compression `COMPRESSION_DEFLATE` or `COMPRESSION_ZSTD`
 */
export async function compressBlock(block: Uint8Array, compression: number): Promise<Uint8Array | undefined> {
  let stored: Uint8Array;
  switch (compression) {
    case COMPRESSION_DEFLATE:
      stored = await deflate(block);
      break;
    case COMPRESSION_ZSTD:
      stored = await (await loadZstd()).compress(block);
      break;
    default:
      throw new VimgError('UNSUPPORTED', 'The image was created without compression', {
        hint: 'create it with -o compression=zstd or -o compression=deflate',
      });
  }
  return stored.length + 4096 <= block.length ? stored : undefined;
}

/** @throws VimgError `CORRUPT` when the stored bytes are damaged, or do not give exactly `length` bytes */
export async function decompressBlock(
  stored: Uint8Array,
  checksum: number,
  compression: number,
  length: number,
  path: string,
): Promise<Uint8Array> {
  if (crc32c(stored) !== checksum) {
    throw new VimgError('CORRUPT', 'A compressed block is damaged: its checksum does not match', { path });
  }
  let block: Uint8Array;
  try {
    if (compression === COMPRESSION_ZSTD) block = await unzstd(stored, length);
    else block = await inflate(stored, length);
  } catch (cause) {
    if (cause instanceof VimgError && cause.code === 'UNSUPPORTED') throw cause;
    throw new VimgError('CORRUPT', 'A compressed block does not decompress', { path, cause });
  }
  if (block.length !== length) {
    throw new VimgError('CORRUPT', `A compressed block holds ${block.length} bytes, not ${length}`, { path });
  }
  return block;
}
