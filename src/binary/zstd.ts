/**
 * zstd (RFC 8878), bounded: a frame is measured before it is decompressed.
 *
 * node:zlib has it from Node 22.15; before that the optional package @toondepauw/node-zstd serves. Either is loaded
 * when first used.
 */
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { VimgError } from '../base/errors.ts';

export interface Zstd {
  compress(data: Uint8Array, level: number): Promise<Uint8Array>;
  /**
   * Decompresses the first frame in `data`, whatever follows it.
   *
   * @param limit bytes that the result may have
   * @throws VimgError `CORRUPT` when there is no whole frame, or it claims or holds more than `limit` bytes
   */
  decompress(data: Uint8Array, limit: number): Promise<Uint8Array>;
}

interface Codec {
  compress(data: Uint8Array, level: number): Promise<Uint8Array>;
  decompress(frame: Uint8Array, limit: number): Promise<Uint8Array>;
}

type ZlibWithZstd = typeof zlib & {
  readonly constants: typeof zlib.constants & { readonly ZSTD_c_compressionLevel: number };
  zstdCompress?: (
    data: Uint8Array,
    options: object,
    done: (error: Error | null, out: Buffer) => void,
  ) => void;
  zstdDecompress?: (
    data: Uint8Array,
    options: object,
    done: (error: Error | null, out: Buffer) => void,
  ) => void;
};

interface NodeZstd {
  readonly Encoder: new (level: number) => { encode(data: Buffer): Promise<Buffer> };
  readonly Decoder: new () => { decode(data: Buffer): Promise<Buffer> };
}

let loaded: Zstd | undefined;

/** @throws VimgError `UNSUPPORTED` when neither Node nor an installed package has zstd */
export function loadZstd(): Promise<Zstd> {
  loaded ??= bounded(fromNode(zlib as ZlibWithZstd) ?? fromPackage());
  return Promise.resolve(loaded);
}

function bounded(codec: Codec): Zstd {
  return {
    compress: codec.compress,
    async decompress(data, limit) {
      const frame = measureZstdFrame(data);
      if (frame.contentMinimum > limit) {
        throw new VimgError('CORRUPT', `A zstd frame claims more than ${limit} bytes`);
      }
      const out = await codec.decompress(data.subarray(0, frame.length), limit);
      if (out.length > limit) throw new VimgError('CORRUPT', `A zstd frame holds more than ${limit} bytes`);
      return out;
    },
  };
}

function fromNode(node: ZlibWithZstd): Codec | undefined {
  if (!node.zstdCompress || !node.zstdDecompress) return undefined;
  const compress = promisify(node.zstdCompress);
  const decompress = promisify(node.zstdDecompress);
  const levelKey = node.constants.ZSTD_c_compressionLevel;
  return {
    compress: (data, level) => compress(data, { params: { [levelKey]: level } }),
    decompress: (frame, limit) => decompress(frame, { maxOutputLength: limit }),
  };
}

function fromPackage(): Codec {
  let codec: NodeZstd;
  try {
    codec = createRequire(import.meta.url)('@toondepauw/node-zstd') as NodeZstd;
  } catch (cause) {
    throw new VimgError('UNSUPPORTED', 'zstd is not available here', {
      hint: 'use Node 22.15 or newer, or install @toondepauw/node-zstd',
      cause,
    });
  }
  const asBuffer = (data: Uint8Array): Buffer => Buffer.from(data.buffer, data.byteOffset, data.length);
  return {
    compress: (data, level) => new codec.Encoder(level).encode(asBuffer(data)),
    decompress: (frame) => new codec.Decoder().decode(asBuffer(frame)),
  };
}

export interface ZstdFrame {
  /** Bytes of the frame, header and checksum included: what follows is padding. */
  readonly length: number;
  /** Bytes that the frame certainly holds: its declared size, or what its raw and repeated blocks add up to. */
  readonly contentMinimum: number;
  /** Bytes that it holds at the most: 128 KiB for each compressed block (RFC 8878, section 3.1.1.2.4). */
  readonly contentMaximum: number;
}

const MAGIC = 0xfd2fb528;
const BLOCK_MAXIMUM = 128 * 1024;
const BLOCK_RAW = 0;
const BLOCK_REPEATED = 1;
const BLOCK_COMPRESSED = 2;

/**
 * Measures the frame at the start of `data` by its headers alone (RFC 8878, sections 3.1.1.1 and 3.1.1.2).
 *
 * @throws VimgError `CORRUPT` when no whole frame is there
 */
export function measureZstdFrame(data: Uint8Array): ZstdFrame {
  const cut = (): VimgError => new VimgError('CORRUPT', 'A zstd frame is cut short or is none');
  if (data.length < 6) throw cut();
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (view.getUint32(0, true) !== MAGIC) throw cut();
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >>> 6;
  const sizeBytes = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 1 << sizeFlag;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
  let at = 5 + (singleSegment ? 0 : 1) + dictionaryBytes;
  if (at + sizeBytes > data.length) throw cut();
  const declared = readSize(view, at, sizeBytes);
  at += sizeBytes;
  let minimum = 0;
  let maximum = 0;
  for (let last = false; !last; ) {
    if (at + 3 > data.length) throw cut();
    const head = view.getUint8(at) | (view.getUint8(at + 1) << 8) | (view.getUint8(at + 2) << 16);
    last = (head & 1) !== 0;
    const type = (head >>> 1) & 3;
    const size = head >>> 3;
    if (type > BLOCK_COMPRESSED || size > BLOCK_MAXIMUM) throw cut();
    if (type === BLOCK_RAW || type === BLOCK_REPEATED) minimum += size;
    maximum += type === BLOCK_COMPRESSED ? BLOCK_MAXIMUM : size;
    at += 3 + (type === BLOCK_REPEATED ? 1 : size);
  }
  if ((descriptor & 4) !== 0) at += 4;
  if (at > data.length) throw cut();
  return { length: at, contentMinimum: Math.max(minimum, declared ?? 0), contentMaximum: maximum };
}

function readSize(view: DataView, at: number, bytes: number): number | undefined {
  switch (bytes) {
    case 1:
      return view.getUint8(at);
    case 2:
      return view.getUint16(at, true) + 256;
    case 4:
      return view.getUint32(at, true);
    case 8:
      return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
    default:
      return undefined;
  }
}
