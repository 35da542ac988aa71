/**
 * The content of compressed clusters (QEMU docs/interop/qcow2, "Compressed Clusters Descriptor" and
 * `compression_type`).
 *
 * zlib means a raw deflate stream (no header, no checksum) with a window of 2^12 bytes; zstd means frames. The
 * descriptor counts sectors, so what is stored ends with bytes that do not belong to the cluster.
 *
 * Invariant: what comes out has exactly the cluster's size, and no input makes it allocate without bound on the way.
 */
import { constants, deflateRaw, inflateRaw, inflateRawSync, type ZlibOptions } from 'node:zlib';
import { VimgError } from '../../src/base/errors.ts';
import { unzstd } from '../../src/binary/zstd.ts';
import { loadZstd } from '../../src/binary/zstd-codec.ts';
import type { CompressionType } from './header-fields.ts';

const WINDOW_BITS = 12;
/** zlib's default level and the largest match memory: with these, stock zlib gives QEMU's very bytes; Node's zlib differs by a little. */
const LEVEL = 6;
const MEMORY_LEVEL = 9;
/** Clusters up to this size are inflated in place: the way through the thread pool costs more than the work. */
const SYNC_BYTES_MAX = 4096;

/**
 * Decompresses one cluster.
 *
 * @param stored the sectors that the descriptor names, with whatever follows the compressed data in them
 * @returns exactly `clusterSize` bytes
 * @throws VimgError `CORRUPT` when that does not come out, `UNSUPPORTED` when this Node has no zstd
 */
export async function decompressCluster(
  type: CompressionType,
  stored: Uint8Array,
  clusterSize: number,
): Promise<Uint8Array> {
  const content = await (type === 'zlib' ? inflate(stored, clusterSize) : unzstd(stored, clusterSize));
  if (content.length === clusterSize) return content;
  throw new VimgError('CORRUPT', `a compressed cluster holds ${content.length} of ${clusterSize} bytes`, {
    op: 'decompress',
  });
}

async function inflate(stored: Uint8Array, clusterSize: number): Promise<Uint8Array> {
  // A stream may stop without its end mark once it gave a whole cluster: the spec ends there, and so does Z_SYNC_FLUSH.
  const options: ZlibOptions = {
    windowBits: WINDOW_BITS,
    finishFlush: constants.Z_SYNC_FLUSH,
    chunkSize: Math.max(clusterSize, 64),
    maxOutputLength: clusterSize,
  };
  try {
    if (clusterSize <= SYNC_BYTES_MAX) return inflateRawSync(stored, options);
    return await new Promise<Uint8Array>((resolve, reject) => {
      inflateRaw(stored, options, (error, result) => (error ? reject(error) : resolve(result)));
    });
  } catch (cause) {
    throw new VimgError('CORRUPT', `a compressed cluster does not inflate to ${clusterSize} bytes`, {
      op: 'decompress',
      cause,
    });
  }
}

/**
 * Compresses one cluster.
 *
 * @param unit exactly one cluster
 * @returns nothing when the result would not be smaller than the cluster
 */
export async function compressCluster(
  type: CompressionType,
  unit: Uint8Array,
): Promise<Uint8Array | undefined> {
  const compressed = type === 'zlib' ? await deflate(unit) : await (await loadZstd()).compress(unit);
  return compressed !== undefined && compressed.length < unit.length ? compressed : undefined;
}

function deflate(unit: Uint8Array): Promise<Uint8Array | undefined> {
  const options: ZlibOptions = {
    windowBits: WINDOW_BITS,
    level: LEVEL,
    memLevel: MEMORY_LEVEL,
    chunkSize: Math.max(unit.length, 64),
    maxOutputLength: unit.length,
  };
  return new Promise((resolve, reject) => {
    deflateRaw(unit, options, (error, result) => {
      if (error === null) resolve(result);
      else if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') resolve(undefined);
      else reject(error);
    });
  });
}
