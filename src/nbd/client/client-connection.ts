/**
 * One connection in the transmission phase: sends requests, takes the replies to pieces, and settles the requests.
 *
 * Answers come in any order; a cookie tells whose. Data goes from the socket's buffer straight into the reader's. Every
 * length and place in a reply is verified before it is used. A connection that breaks the protocol, ends, or is silent
 * for too long while it owes an answer (reply-watch.ts) is lost; what it had not answered is handed back.
 */
import type { Socket } from 'node:net';
import { fromSystemError, VimgError } from '../../base/errors.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_DISC,
  CMD_READ,
  CMD_WRITE,
  EXTENDED_REPLY,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REQUEST,
  EXTENDED_REQUEST_MAGIC,
  REPLY_BLOCK_STATUS,
  REPLY_BLOCK_STATUS_EXT,
  REPLY_ERROR,
  REPLY_ERROR_OFFSET,
  REPLY_FLAG_DONE,
  REPLY_NONE,
  REPLY_OFFSET_DATA,
  REPLY_OFFSET_HOLE,
  REQUEST,
  REQUEST_MAGIC,
  SIMPLE_REPLY,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY,
  STRUCTURED_REPLY_MAGIC,
} from '../protocol.ts';
import type { SocketInput } from '../socket-input.ts';
import { errorOfReply, violation } from './client-error.ts';
import { type ClientLimits, REPLY_CHUNKS_MAX, SMALL_CHUNK_MAX } from './client-limits.ts';
import type { ClientRequest } from './client-request.ts';
import type { Agreement, Negotiated } from './negotiation.ts';
import { errorIn, holeIn, statusIn } from './reply-payload.ts';
import { ReplyWatch } from './reply-watch.ts';

/** What a chunk's header says of the payload that follows. */
interface Chunk {
  readonly request: ClientRequest;
  readonly cookie: number;
  readonly type: number;
  readonly done: boolean;
  /** Bytes of payload that were not taken yet. */
  left: number;
  /** OFFSET_DATA: where in the reader's buffer the next bytes go. */
  at: number;
}

/** Bytes in front of the data of an OFFSET_DATA chunk. */
const DATA_OFFSET = 8;

export class ClientConnection {
  readonly agreement: Agreement;
  /** Which connection of its link it is, counted from 1. */
  readonly nth: number;
  readonly #socket: Socket;
  readonly #input: SocketInput;
  readonly #path: string;
  readonly #limits: ClientLimits;
  readonly #onLost: (error: VimgError, unanswered: ClientRequest[]) => void;
  readonly #onAnswer: (request: ClientRequest) => void;
  readonly #waiting = new Map<number, ClientRequest>();
  #bytes = 0;
  #nextCookie = 1;
  #chunk: Chunk | undefined;
  #lost = false;
  readonly #progress: ReplyWatch;
  readonly #watch: NodeJS.Timeout;

  /**
   * @param onLost called once, with what was not answered; not after `close`
   * @param onAnswer called in the tick in which a request was answered or refused, with room for another since
   */
  constructor(
    negotiated: Negotiated,
    nth: number,
    path: string,
    limits: ClientLimits,
    onLost: (error: VimgError, unanswered: ClientRequest[]) => void,
    onAnswer: (request: ClientRequest) => void,
  ) {
    this.agreement = negotiated.agreement;
    this.nth = nth;
    this.#socket = negotiated.socket;
    this.#input = negotiated.input;
    this.#path = path;
    this.#limits = limits;
    this.#onLost = onLost;
    this.#onAnswer = onAnswer;
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on('error', (error) => this.#lose(fromSystemError(error, { op: 'answer', path })));
    this.#socket.on('close', () =>
      this.#lose(new VimgError('IO', 'The server closed the connection', { path })),
    );
    this.#progress = new ReplyWatch(limits);
    const lookMs = Math.max(20, Math.min(limits.silenceMs, limits.replyMs) / 4);
    this.#watch = setInterval(() => this.#watchProgress(), lookMs).unref();
    this.#socket.resume();
  }

  /** Whether a request of so many bytes can be sent now. One always can. */
  hasRoom(payload: number): boolean {
    const { requests, requestBytes } = this.#limits;
    if (this.#waiting.size === 0) return true;
    return this.#waiting.size < requests && this.#bytes + payload <= requestBytes;
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  send(request: ClientRequest): void {
    const cookie = this.#nextCookie++;
    request.sentMs = performance.now();
    if (this.#waiting.size === 0) this.#progress.progress(request.sentMs);
    this.#waiting.set(cookie, request);
    this.#bytes += request.payload;
    const header = request.header(cookie, this.agreement.replies === 'extended');
    if (request.type !== CMD_WRITE) {
      this.#socket.write(header);
      return;
    }
    this.#socket.cork();
    this.#socket.write(header);
    this.#socket.write(request.buffer as Uint8Array);
    this.#socket.uncork();
  }

  /** Ends at once. @returns what was not answered */
  abandon(): ClientRequest[] {
    this.#lost = true;
    clearInterval(this.#watch);
    this.#socket.destroy();
    const unanswered = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const request of unanswered) request.restart();
    return unanswered;
  }

  /** Ends in order; nothing may be in flight. */
  async close(): Promise<void> {
    this.#lost = true;
    clearInterval(this.#watch);
    const socket = this.#socket;
    if (socket.destroyed) return;
    const closed = new Promise<void>((resolve) => {
      socket.once('close', () => resolve());
      setTimeout(() => socket.destroy(), this.#limits.handshakeMs).unref();
    });
    const { replies } = this.agreement;
    const bytes = replies === 'extended' ? EXTENDED_REQUEST.size : REQUEST.size;
    const farewell = Buffer.alloc(bytes);
    farewell.writeUInt32BE(replies === 'extended' ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC, 0);
    farewell.writeUInt16BE(CMD_DISC, 6);
    socket.end(farewell);
    await closed;
  }

  #receive(bytes: Buffer): void {
    if (this.#lost) return;
    this.#input.push(bytes);
    try {
      while (this.#chunk ? this.#takePayload(this.#chunk) : this.#takeHeader()) {
        // one step after another, as long as there are bytes for it
      }
    } catch (error) {
      this.#lose(fromSystemError(error, { path: this.#path }));
    }
  }

  /** False when more bytes must come. */
  #takeHeader(): boolean {
    const input = this.#input;
    if (input.length < SIMPLE_REPLY.size) return false;
    const start = input.peek(SIMPLE_REPLY.size);
    const magic = start.readUInt32BE(input.offsetIn(start));
    const { replies } = this.agreement;
    if (magic === SIMPLE_REPLY_MAGIC && replies !== 'extended') return this.#takeSimple(start);
    const isRight =
      replies === 'extended'
        ? magic === EXTENDED_REPLY_MAGIC
        : magic === STRUCTURED_REPLY_MAGIC && replies !== 'simple';
    if (!isRight) throw violation(this.#path, `a reply begins with 0x${magic.toString(16)}`);
    const size = replies === 'extended' ? EXTENDED_REPLY.size : STRUCTURED_REPLY.size;
    if (input.length < size) return false;
    const header = input.peek(size);
    const at = input.offsetIn(header);
    const flags = header.readUInt16BE(at + 4);
    const type = header.readUInt16BE(at + 6);
    const cookie = readU64(header, at + 8);
    const length = replies === 'extended' ? readU64(header, at + 24) : header.readUInt32BE(at + 16);
    input.skip(size);
    const request = this.#requestOf(cookie);
    if (++request.chunks > REPLY_CHUNKS_MAX) throw violation(this.#path, 'a reply has no end');
    const most = type === REPLY_OFFSET_DATA ? DATA_OFFSET + request.length : SMALL_CHUNK_MAX;
    if (length > most) throw violation(this.#path, `a chunk of ${length} bytes`);
    this.#chunk = { request, cookie, type, done: (flags & REPLY_FLAG_DONE) !== 0, left: length, at: -1 };
    return true;
  }

  #takeSimple(buffer: Buffer): boolean {
    const at = this.#input.offsetIn(buffer);
    const value = buffer.readUInt32BE(at + 4);
    const cookie = readU64(buffer, at + 8);
    const request = this.#requestOf(cookie);
    const isRead = request.type === CMD_READ;
    if ((isRead || request.type === CMD_BLOCK_STATUS) && this.agreement.replies !== 'simple') {
      throw violation(this.#path, `a simple reply to a ${request.name}`);
    }
    this.#input.skip(SIMPLE_REPLY.size);
    if (value !== 0) request.error = { value, message: '' };
    if (isRead && value === 0) {
      if (!request.fill(0, request.length)) throw violation(this.#path, 'data that was not asked for');
      this.#chunk = { request, cookie, type: REPLY_OFFSET_DATA, done: true, left: request.length, at: 0 };
    } else {
      this.#settle(cookie, request);
    }
    return true;
  }

  #requestOf(cookie: number): ClientRequest {
    const request = this.#waiting.get(cookie);
    if (!request) throw violation(this.#path, 'an answer to nothing that was asked');
    return request;
  }

  #takePayload(chunk: Chunk): boolean {
    const input = this.#input;
    if (chunk.type === REPLY_OFFSET_DATA) {
      if (chunk.at < 0) {
        if (input.length < DATA_OFFSET) return false;
        this.#beginData(chunk);
      }
      const count = input.copyTo(chunk.request.buffer as Uint8Array, chunk.at, chunk.left);
      chunk.at += count;
      chunk.left -= count;
      this.#progress.data(count, performance.now());
      if (chunk.left > 0) return false;
    } else {
      if (input.length < chunk.left) return false;
      const payload = Buffer.allocUnsafe(chunk.left);
      input.copyTo(payload, 0, payload.length);
      this.#use(chunk, payload);
    }
    this.#chunk = undefined;
    if (chunk.done) this.#settle(chunk.cookie, chunk.request);
    return true;
  }

  #beginData(chunk: Chunk): void {
    const { request } = chunk;
    const head = this.#input.peek(DATA_OFFSET);
    const offset = readU64(head, this.#input.offsetIn(head));
    this.#input.skip(DATA_OFFSET);
    chunk.left -= DATA_OFFSET;
    chunk.at = offset - request.offset;
    if (request.type !== CMD_READ || !request.fill(chunk.at, chunk.left)) {
      throw violation(this.#path, 'data for another range than was asked for, or twice');
    }
  }

  #use({ request, type }: Chunk, payload: Buffer): void {
    switch (type) {
      case REPLY_NONE:
        if (payload.length > 0) throw violation(this.#path, 'an empty chunk that is not');
        return;
      case REPLY_OFFSET_HOLE: {
        const { offset, length } = holeIn(payload, this.#path);
        const at = offset - request.offset;
        if (request.type !== CMD_READ || !request.fill(at, length)) {
          throw violation(this.#path, 'a hole in another range than was asked for, or twice');
        }
        request.buffer?.fill(0, at, at + length);
        return;
      }
      case REPLY_BLOCK_STATUS:
      case REPLY_BLOCK_STATUS_EXT: {
        if (request.type !== CMD_BLOCK_STATUS)
          throw violation(this.#path, `extents in answer to a ${request.name}`);
        const status = statusIn(payload, type === REPLY_BLOCK_STATUS_EXT, request.length, this.#path);
        if (status.context === this.agreement.allocationContext) request.status = status;
        return;
      }
      default:
        if (type < 0x8000) throw violation(this.#path, `a chunk of type ${type}`);
        request.error ??= errorIn(payload, type === REPLY_ERROR || type === REPLY_ERROR_OFFSET, this.#path);
    }
  }

  #settle(cookie: number, request: ClientRequest): void {
    this.#waiting.delete(cookie);
    this.#bytes -= request.payload;
    this.#progress.progress(performance.now());
    const { error, name, offset } = request;
    if (error) request.reject(errorOfReply(error.value, name, this.#path, offset, error.message));
    else if (request.type === CMD_READ && !request.isFilled) {
      throw this.#unsettled(cookie, request, violation(this.#path, 'a read is answered in part'));
    } else request.resolve(request.status);
    this.#onAnswer(request);
  }

  /** The answer is wrong: the request is not answered, and goes with the others when the connection is given up. */
  #unsettled(cookie: number, request: ClientRequest, error: VimgError): VimgError {
    this.#waiting.set(cookie, request);
    return error;
  }

  #watchProgress(): void {
    const [oldest] = this.#waiting.values(); // in the order of sending
    const isOverdue = this.#progress.isOverdue(oldest?.sentMs, performance.now());
    if (isOverdue)
      this.#lose(new VimgError('IO', 'The server does not answer any more', { path: this.#path }));
  }

  #lose(error: VimgError): void {
    if (!this.#lost) this.#onLost(error, this.abandon());
  }
}

/** Values beyond 2^53 come out inexact, and as none that was sent. */
function readU64(buffer: Buffer, at: number): number {
  return buffer.readUInt32BE(at) * 2 ** 32 + buffer.readUInt32BE(at + 4);
}
