/**
 * The zstd codec: that of Node where it has one (22.15 and newer), else the optional package @toondepauw/node-zstd.
 * Loaded when first used.
 */
import { createRequire } from 'node:module';
import * as zlib from 'node:zlib';
import { VimgError } from '../base/errors.ts';

/** The level that QEMU uses: zstd's own default. */
const LEVEL = 3;

/** Compresses and decompresses exactly one frame. */
export interface ZstdCodec {
  /**
   * @param contentMax the most that is wanted; a codec that can stops there, and the caller has bounded what a frame
   *   can hold for one that cannot
   */
  decompress(frame: Uint8Array, contentMax: number): Promise<Uint8Array>;
  compress(data: Uint8Array): Promise<Uint8Array>;
}

type ZlibCallback = (error: Error | null, result: Buffer) => void;

/** The part of node:zlib that the type package for Node 20 does not know. */
interface ZlibWithZstd {
  zstdDecompress?: (data: Uint8Array, options: { maxOutputLength: number }, done: ZlibCallback) => void;
  zstdCompress?: (data: Uint8Array, done: ZlibCallback) => void;
}

type NodeZstd = typeof import('@toondepauw/node-zstd');

let codec: Promise<ZstdCodec> | undefined;

/** The codec of this machine. @throws VimgError `UNSUPPORTED` when there is none */
export function loadZstd(): Promise<ZstdCodec> {
  codec ??= fromNode() ?? fromPackage();
  return codec;
}

function fromNode(): Promise<ZstdCodec> | undefined {
  const { zstdDecompress, zstdCompress } = zlib as unknown as ZlibWithZstd;
  if (zstdDecompress === undefined || zstdCompress === undefined) return undefined;
  return Promise.resolve({
    decompress: (frame, contentMax) =>
      promised((done) => zstdDecompress(frame, { maxOutputLength: Math.max(contentMax, 1) }, done)),
    compress: (data) => promised((done) => zstdCompress(data, done)),
  });
}

function promised(start: (done: ZlibCallback) => void): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    start((error, result) => (error ? reject(error) : resolve(result)));
  });
}

async function fromPackage(): Promise<ZstdCodec> {
  try {
    // not import(): the tool runs as one script, where only require finds packages
    const { Decoder, Encoder } = createRequire(import.meta.url)('@toondepauw/node-zstd') as NodeZstd;
    const decoder = new Decoder();
    const encoder = new Encoder(LEVEL);
    return {
      decompress: (frame) => decoder.decode(asBuffer(frame)),
      compress: (data) => encoder.encode(asBuffer(data)),
    };
  } catch (cause) {
    throw new VimgError('UNSUPPORTED', 'this Node has no zstd', {
      op: 'load zstd',
      hint: 'use Node 22.15 or newer, or install the optional package @toondepauw/node-zstd',
      cause,
    });
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
