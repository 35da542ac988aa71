/**
 * Writes replies into the output: simple ones, structured chunks and extended chunks ("Simple reply message",
 * "Structured reply types", "Extended reply chunk message").
 */
import {
  EXTENDED_REPLY,
  EXTENDED_REPLY_MAGIC,
  REPLY_BLOCK_STATUS,
  REPLY_BLOCK_STATUS_EXT,
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

/** What was negotiated: how replies look. */
export type ReplyFormat = 'simple' | 'structured' | 'extended';

const SIMPLE_HEAD: number = SIMPLE_REPLY.size;
/** In front of the bytes of a chunk of data stands their offset in the export. */
const OFFSET_BYTES = 8;
const HOLE_PAYLOAD = 12;
const ERROR_HEAD = 6;

export class ReplyWriter {
  readonly #output: ReplyOutput;
  readonly #format: ReplyFormat;
  readonly #chunkHead: number;
  readonly #dataHead: number;

  constructor(output: ReplyOutput, format: ReplyFormat) {
    this.#output = output;
    this.#format = format;
    this.#chunkHead = format === 'extended' ? EXTENDED_REPLY.size : STRUCTURED_REPLY.size;
    this.#dataHead = format === 'simple' ? SIMPLE_HEAD : this.#chunkHead + OFFSET_BYTES;
  }

  /** Success without data. */
  done(request: Request): void {
    if (this.#format === 'extended') this.#none(request);
    else this.#simple(request, 0);
  }

  /** What a READ of nothing is answered with. */
  nothingRead(request: Request): void {
    if (this.#format === 'simple') this.#simple(request, 0);
    else this.#none(request);
  }

  /** An error; in a chunk, with a message for people. */
  error(request: Request, error: number, message: string): void {
    if (this.#format === 'simple') {
      this.#simple(request, error);
      return;
    }
    const { region } = request;
    const text = Buffer.from(message);
    const payload = ERROR_HEAD + text.length;
    const { view, buffer } = this.#output.reserve(region, this.#chunkHead + payload);
    const at = this.#head(view, region.start, request, REPLY_FLAG_DONE, REPLY_ERROR, payload);
    view.setUint32(at, error);
    view.setUint16(at + 4, text.length);
    buffer.set(text, at + ERROR_HEAD);
    this.#output.commit(region);
  }

  #simple(request: Request, error: number): void {
    const { region } = request;
    const { view } = this.#output.reserve(region, SIMPLE_HEAD);
    simpleHead(view, region.start, request, error);
    this.#output.commit(region);
  }

  #none(request: Request): void {
    const { region } = request;
    const { view } = this.#output.reserve(region, this.#chunkHead);
    this.#head(view, region.start, request, REPLY_FLAG_DONE, REPLY_NONE, 0);
    this.#output.commit(region);
  }

  /** Makes place for a READ in one piece. Returns where the data goes. */
  reserveData(request: Request): Uint8Array {
    const { region, length } = request;
    const { buffer } = this.#output.reserve(region, this.#dataHead + length);
    const start = region.start + this.#dataHead;
    return buffer.subarray(start, start + length);
  }

  /** The data is in its place. */
  commitData(request: Request): void {
    const { region } = request;
    const view = region.arena?.view as DataView;
    if (this.#format === 'simple') simpleHead(view, region.start, request, 0);
    else this.#pieceHead(view, region.start, request, request.offset, request.length, REPLY_FLAG_DONE);
    this.#output.commit(region);
  }

  /** Makes place for a READ in pieces, heads and holes already written. Returns where the data of each piece goes. */
  reservePieces(request: Request, pieces: readonly ReadPiece[]): Uint8Array[] {
    const { region } = request;
    const sizeOf = (piece: ReadPiece): number =>
      piece.hole ? this.#chunkHead + HOLE_PAYLOAD : this.#dataHead + piece.length;
    const size = pieces.reduce((sum, piece) => sum + sizeOf(piece), 0);
    const { view, buffer } = this.#output.reserve(region, size);
    const places: Uint8Array[] = [];
    let at = region.start;
    for (const [index, piece] of pieces.entries()) {
      const flags = index === pieces.length - 1 ? REPLY_FLAG_DONE : 0;
      if (piece.hole) {
        this.#hole(view, at, request, piece, flags);
      } else {
        const start = this.#pieceHead(view, at, request, piece.offset, piece.length, flags);
        places.push(buffer.subarray(start, start + piece.length));
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
    const extended = this.#format === 'extended';
    const payloadOf = (extents: readonly number[]): number =>
      extended ? 8 + 8 * extents.length : 4 + 4 * extents.length;
    const size = statuses.reduce((sum, { extents }) => sum + this.#chunkHead + payloadOf(extents), 0);
    const { view } = this.#output.reserve(region, size);
    const type = extended ? REPLY_BLOCK_STATUS_EXT : REPLY_BLOCK_STATUS;
    let at = region.start;
    for (const [index, { context, extents }] of statuses.entries()) {
      const flags = index === statuses.length - 1 ? REPLY_FLAG_DONE : 0;
      at = this.#head(view, at, request, flags, type, payloadOf(extents));
      view.setUint32(at, context.id);
      at += 4;
      if (extended) {
        view.setUint32(at, extents.length / 2);
        at += 4;
      }
      for (const value of extents) {
        if (extended) set64(view, at, value);
        else view.setUint32(at, value);
        at += extended ? 8 : 4;
      }
    }
    this.#output.commit(region);
  }

  /** Writes the head of a chunk. Returns where its payload begins. */
  #head(view: DataView, at: number, request: Request, flags: number, type: number, payload: number): number {
    const extended = this.#format === 'extended';
    view.setUint32(at, extended ? EXTENDED_REPLY_MAGIC : STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, flags);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, request.cookieHigh);
    view.setUint32(at + 12, request.cookieLow);
    if (!extended) {
      view.setUint32(at + 16, payload);
      return at + STRUCTURED_REPLY.size;
    }
    view.setUint32(at + 16, request.offsetHigh);
    view.setUint32(at + 20, request.offsetLow);
    set64(view, at + 24, payload);
    return at + EXTENDED_REPLY.size;
  }

  /** Writes what stands in front of a piece of data. Returns where the data begins. */
  #pieceHead(
    view: DataView,
    at: number,
    request: Request,
    offset: number,
    length: number,
    flags: number,
  ): number {
    const start = this.#head(view, at, request, flags, REPLY_OFFSET_DATA, OFFSET_BYTES + length);
    set64(view, start, offset);
    return start + OFFSET_BYTES;
  }

  #hole(view: DataView, at: number, request: Request, piece: ReadPiece, flags: number): void {
    const start = this.#head(view, at, request, flags, REPLY_OFFSET_HOLE, HOLE_PAYLOAD);
    set64(view, start, piece.offset);
    view.setUint32(start + OFFSET_BYTES, piece.length);
  }
}

function simpleHead(view: DataView, at: number, request: Request, error: number): void {
  view.setUint32(at, SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, error);
  view.setUint32(at + 8, request.cookieHigh);
  view.setUint32(at + 12, request.cookieLow);
}

function set64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 0x1_0000_0000));
  view.setUint32(at + 4, value >>> 0);
}
