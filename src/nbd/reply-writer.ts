/** Writes replies into the output: simple ones and structured chunks ("Simple reply message", "Structured reply types"). */
import {
  REPLY_BLOCK_STATUS,
  REPLY_ERROR,
  REPLY_FLAG_DONE,
  REPLY_NONE,
  REPLY_OFFSET_DATA,
  REPLY_OFFSET_HOLE,
  SIMPLE_REPLY,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts';
import type { ReplyOutput } from './reply-output.ts';
import type { ReadPiece, Request } from './request.ts';

const CHUNK_HEAD: number = STRUCTURED_REPLY.size;
/** Behind the head of a chunk of data stands its offset in the export. */
const DATA_CHUNK_HEAD: number = CHUNK_HEAD + 8;
const SIMPLE_HEAD: number = SIMPLE_REPLY.size;
const HOLE_CHUNK: number = CHUNK_HEAD + 12;
const ERROR_HEAD = 6;

export class ReplyWriter {
  readonly #output: ReplyOutput;

  constructor(output: ReplyOutput) {
    this.#output = output;
  }

  /** Success without data. */
  simple(request: Request, error = 0): void {
    const { region } = request;
    const { view } = this.#output.reserve(region, SIMPLE_HEAD);
    simpleHead(view, region.start, request, error);
    this.#output.commit(region);
  }

  /** A structured reply without data: what a READ of nothing is answered with. */
  none(request: Request): void {
    const { region } = request;
    const { view } = this.#output.reserve(region, CHUNK_HEAD);
    chunkHead(view, region.start, request, REPLY_FLAG_DONE, REPLY_NONE, 0);
    this.#output.commit(region);
  }

  /** A structured error, with a message for people. */
  error(request: Request, error: number, message: string): void {
    const { region } = request;
    const text = Buffer.from(message);
    const { view, buffer } = this.#output.reserve(region, CHUNK_HEAD + ERROR_HEAD + text.length);
    const at = region.start;
    chunkHead(view, at, request, REPLY_FLAG_DONE, REPLY_ERROR, ERROR_HEAD + text.length);
    view.setUint32(at + CHUNK_HEAD, error);
    view.setUint16(at + CHUNK_HEAD + 4, text.length);
    buffer.set(text, at + CHUNK_HEAD + ERROR_HEAD);
    this.#output.commit(region);
  }

  /** Makes place for a READ in one piece. Returns where the data goes. */
  reserveData(request: Request, structured: boolean): Uint8Array {
    const head = structured ? DATA_CHUNK_HEAD : SIMPLE_HEAD;
    const { region, length } = request;
    const { buffer } = this.#output.reserve(region, head + length);
    const start = region.start + head;
    return buffer.subarray(start, start + length);
  }

  /** The data is in its place. */
  commitData(request: Request, structured: boolean): void {
    const { region } = request;
    const view = region.arena?.view as DataView;
    if (structured) dataHead(view, region.start, request, request, REPLY_FLAG_DONE);
    else simpleHead(view, region.start, request, 0);
    this.#output.commit(region);
  }

  /** Makes place for a READ in pieces, heads and holes already written. Returns where the data of each piece goes. */
  reservePieces(request: Request, pieces: readonly ReadPiece[]): Uint8Array[] {
    const { region } = request;
    const sizeOf = (piece: ReadPiece): number => (piece.hole ? HOLE_CHUNK : DATA_CHUNK_HEAD + piece.length);
    const size = pieces.reduce((sum, piece) => sum + sizeOf(piece), 0);
    const { view, buffer } = this.#output.reserve(region, size);
    const places: Uint8Array[] = [];
    let at = region.start;
    for (const [index, piece] of pieces.entries()) {
      const flags = index === pieces.length - 1 ? REPLY_FLAG_DONE : 0;
      if (piece.hole) {
        holeChunk(view, at, request, piece, flags);
      } else {
        dataHead(view, at, request, piece, flags);
        places.push(buffer.subarray(at + DATA_CHUNK_HEAD, at + DATA_CHUNK_HEAD + piece.length));
      }
      at += sizeOf(piece);
    }
    return places;
  }

  /** The data of all pieces is in its place. */
  commitPieces(request: Request): void {
    this.#output.commit(request.region);
  }

  /** One chunk for each context. */
  blockStatus(request: Request): void {
    const { region, statuses } = request;
    const payloadOf = (extents: readonly number[]): number => 4 + 4 * extents.length;
    const size = statuses.reduce((sum, { extents }) => sum + CHUNK_HEAD + payloadOf(extents), 0);
    const { view } = this.#output.reserve(region, size);
    let at = region.start;
    for (const [index, { context, extents }] of statuses.entries()) {
      const flags = index === statuses.length - 1 ? REPLY_FLAG_DONE : 0;
      chunkHead(view, at, request, flags, REPLY_BLOCK_STATUS, payloadOf(extents));
      at += CHUNK_HEAD;
      view.setUint32(at, context.id);
      at += 4;
      for (const value of extents) {
        view.setUint32(at, value);
        at += 4;
      }
    }
    this.#output.commit(region);
  }
}

function simpleHead(view: DataView, at: number, request: Request, error: number): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
}

function chunkHead(
  view: DataView,
  at: number,
  request: Request,
  flags: number,
  type: number,
  payload: number,
): void {
  view.setUint32(at, STRUCTURED_REPLY_MAGIC);
  view.setUint16(at + 4, flags);
  view.setUint16(at + 6, type);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
  view.setUint32(at + 16, payload);
}

function offset64(view: DataView, at: number, offset: number): void {
  view.setUint32(at, Math.floor(offset / 0x1_0000_0000));
  view.setUint32(at + 4, offset >>> 0);
}

function dataHead(
  view: DataView,
  at: number,
  request: Request,
  range: { readonly offset: number; readonly length: number },
  flags: number,
): void {
  chunkHead(view, at, request, flags, REPLY_OFFSET_DATA, 8 + range.length);
  offset64(view, at + CHUNK_HEAD, range.offset);
}

function holeChunk(view: DataView, at: number, request: Request, piece: ReadPiece, flags: number): void {
  chunkHead(view, at, request, flags, REPLY_OFFSET_HOLE, 12);
  offset64(view, at + CHUNK_HEAD, piece.offset);
  view.setUint32(at + CHUNK_HEAD + 8, piece.length);
}
