/**
 * Finds where a zstd frame ends and how much it can hold, without decompressing it (RFC 8878, section 3.1).
 *
 * A compressed cluster of qcow2 is stored in whole sectors, so a frame is followed by padding or by the start of
 * another cluster. A one-shot decoder takes that for a second frame and fails, or worse. And a few bytes may expand to
 * gigabytes: the sum over the block headers bounds what a decoder can be made to produce.
 */
import { VimgError } from '../base/errors.ts';

const FRAME_MAGIC = 0xfd2fb528;
/** Skippable frames: the last four bits are free (RFC 8878, section 3.1.2). */
const SKIPPABLE_MAGIC = 0x184d2a50;
const BLOCK_SIZE_MAX = 128 * 1024;
/** RFC 8878, section 3.1.1.1.2, recommends that decoders take at least this; a cluster never needs more. */
const WINDOW_SIZE_MAX = 8 * 1024 * 1024;

const BLOCK_RAW = 0;
const BLOCK_RLE = 1;
const BLOCK_COMPRESSED = 2;

/** What the headers of a frame say. All in bytes. */
export interface ZstdFrame {
  /** The frame from its magic to its last byte, checksum included. */
  readonly length: number;
  /** Content size, when the frame header says it. 0 for a skippable frame. */
  readonly contentSize: number | undefined;
  /** The content has at most this many bytes. */
  readonly contentMax: number;
  readonly skippable: boolean;
}

/**
 * Measures the frame at `start` of `bytes`.
 *
 * @throws VimgError `CORRUPT` when there is no whole frame, `UNSUPPORTED` for a dictionary or an outsized window
 */
export function measureZstdFrame(bytes: Uint8Array, start = 0): ZstdFrame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (start + 8 > bytes.length) throw corrupt('the frame header is cut short');
  const magic = view.getUint32(start, true);
  if ((magic & 0xffff_fff0) >>> 0 === SKIPPABLE_MAGIC) {
    const length = 8 + view.getUint32(start + 4, true);
    if (start + length > bytes.length) throw corrupt('a skippable frame passes the end');
    return { length, contentSize: 0, contentMax: 0, skippable: true };
  }
  if (magic !== FRAME_MAGIC) throw corrupt('there is no frame');
  const header = readFrameHeader(view, start + 4);
  const blocks = measureBlocks(view, header.end, Math.min(header.windowSize, BLOCK_SIZE_MAX));
  const end = blocks.end + (header.checksum ? 4 : 0);
  if (end > bytes.length) throw corrupt('the frame is cut short');
  // The size in the header is only a claim: what bounds a decoder is what the blocks can produce.
  const { contentMax } = blocks;
  return { length: end - start, contentSize: header.contentSize, contentMax, skippable: false };
}

interface FrameHeader {
  readonly end: number;
  readonly windowSize: number;
  readonly contentSize: number | undefined;
  readonly checksum: boolean;
}

/** RFC 8878, section 3.1.1.1: descriptor, window, dictionary ID, content size. */
function readFrameHeader(view: DataView, start: number): FrameHeader {
  const descriptor = view.getUint8(start);
  const singleSegment = (descriptor & 0x20) !== 0;
  if ((descriptor & 0x08) !== 0) throw corrupt('a reserved bit of the frame header is set');
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number;
  const sizeFlag = descriptor >>> 6;
  const sizeBytes = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 2 ** sizeFlag;
  let at = start + 1;
  const end = at + (singleSegment ? 0 : 1) + dictionaryBytes + sizeBytes;
  if (end > view.byteLength) throw corrupt('the frame header is cut short');
  let windowSize = 0;
  if (!singleSegment) {
    const window = view.getUint8(at++);
    const base = 2 ** (10 + (window >>> 3));
    windowSize = base + (base / 8) * (window & 7);
  }
  for (let i = 0; i < dictionaryBytes; i++) {
    if (view.getUint8(at++) !== 0) throw unsupported('the frame needs a dictionary');
  }
  const contentSize = readContentSize(view, at, sizeBytes);
  if (singleSegment) windowSize = contentSize as number;
  if (windowSize > WINDOW_SIZE_MAX) throw unsupported(`the frame needs a window of ${windowSize} bytes`);
  return { end, windowSize, contentSize, checksum: (descriptor & 0x04) !== 0 };
}

function readContentSize(view: DataView, at: number, bytes: number): number | undefined {
  if (bytes === 0) return undefined;
  if (bytes === 1) return view.getUint8(at);
  if (bytes === 2) return view.getUint16(at, true) + 256;
  if (bytes === 4) return view.getUint32(at, true);
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
}

/** RFC 8878, section 3.1.1.2: a block header has 3 bytes: last, type, size. */
function measureBlocks(
  view: DataView,
  start: number,
  blockSizeMax: number,
): { end: number; contentMax: number } {
  let at = start;
  let contentMax = 0;
  for (;;) {
    if (at + 3 > view.byteLength) throw corrupt('a block header is cut short');
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    const type = (header >>> 1) & 3;
    const size = header >>> 3;
    at += 3;
    if (size > blockSizeMax) throw corrupt(`a block of ${size} bytes; the frame allows ${blockSizeMax}`);
    if (type === BLOCK_RAW) {
      at += size;
      contentMax += size;
    } else if (type === BLOCK_RLE) {
      at += 1;
      contentMax += size;
    } else if (type === BLOCK_COMPRESSED) {
      at += size;
      contentMax += blockSizeMax;
    } else {
      throw corrupt('a block has the reserved type');
    }
    if ((header & 1) !== 0) return { end: at, contentMax };
  }
}

function corrupt(what: string): VimgError {
  return new VimgError('CORRUPT', `zstd: ${what}`, { op: 'decompress' });
}

function unsupported(what: string): VimgError {
  return new VimgError('UNSUPPORTED', `zstd: ${what}`, { op: 'decompress' });
}
