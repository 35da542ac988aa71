/**
 * Does what a request asks, and answers it. A request that the device completes in the same tick is answered in the
 * same tick; else when the device's promise settles.
 */
import { ERROR_CODES, isVimgError, type VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { blockStatus, readPieces } from './block-status.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { Export } from './export.ts';
import type { Session } from './handshake.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_CACHE,
  CMD_FLAG_DF,
  CMD_FLAG_FAST_ZERO,
  CMD_FLAG_FUA,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOTSUP,
} from './protocol.ts';
import type { ReplyOutput } from './reply-output.ts';
import { ReplyWriter } from './reply-writer.ts';
import type { ReadPiece, Request } from './request.ts';
import { PAYLOAD_MAX } from './server-limits.ts';

/** Reads from this length on are looked through for holes; for shorter ones looking costs more than sending zeroes. */
const PIECES_FROM = 64 * 1024;
const CACHE_STEP = 256 * 1024;

export class CommandRunner {
  readonly #session: Session;
  readonly #served: Export;
  readonly #output: ReplyOutput;
  readonly #writer: ReplyWriter;
  readonly #pool: BufferPool;
  readonly #onDeviceError: (error: VimgError) => void;

  constructor(
    session: Session,
    output: ReplyOutput,
    pool: BufferPool,
    onDeviceError: (error: VimgError) => void,
  ) {
    this.#session = session;
    this.#served = session.served;
    this.#output = output;
    this.#writer = new ReplyWriter(output, session.replies);
    this.#pool = pool;
    this.#onDeviceError = onDeviceError;
  }

  /** Starts the work of a request that passed the checks. Fails as the device does. */
  start(request: Request): MaybePromise<void> {
    const { device } = this.#served;
    const { offset, length, flags } = request;
    if (length === 0 && request.type !== CMD_FLUSH) return;
    switch (request.type) {
      case CMD_READ:
        return this.#read(request);
      case CMD_WRITE:
        return device.pwrite(request.payload as Buffer, offset);
      case CMD_FLUSH:
        return device.flush();
      case CMD_TRIM:
        return device.discard(offset, length);
      case CMD_WRITE_ZEROES:
        return device.writeZeroes(offset, length, { keepAllocated: (flags & CMD_FLAG_NO_HOLE) !== 0 });
      case CMD_CACHE:
        return this.#cache(offset, Math.min(length, PAYLOAD_MAX));
      case CMD_BLOCK_STATUS:
        return this.#status(request);
    }
  }

  /** What FUA still asks for, once the work is done. */
  afterwards(request: Request): MaybePromise<void> {
    if (request.flushed || (request.flags & CMD_FLAG_FUA) === 0) return;
    request.flushed = true;
    const { type } = request;
    if (type === CMD_WRITE || type === CMD_TRIM || type === CMD_WRITE_ZEROES) {
      return this.#served.device.flush();
    }
  }

  /** Answers a request whose work is done. */
  succeed(request: Request): void {
    switch (request.type) {
      case CMD_READ:
        if (request.length === 0) this.#writer.nothingRead(request);
        else if (request.pieces) this.#writer.commitPieces(request);
        else this.#writer.commitData(request);
        break;
      case CMD_BLOCK_STATUS:
        this.#writer.blockStatus(request);
        break;
      default:
        this.#writer.done(request);
    }
  }

  /**
   * Answers a request that the device failed. The one table of errors says with which value.
   *
   * @throws what is no operating error: a bug
   */
  fail(request: Request, error: unknown): void {
    if (!isVimgError(error)) throw error;
    this.#onDeviceError(error);
    const { nbdErrno } = ERROR_CODES[error.code];
    // Clients expect ENOTSUP only where they asked for speed or nothing ("Error values").
    const asked = request.type === CMD_WRITE_ZEROES && (request.flags & CMD_FLAG_FAST_ZERO) !== 0;
    this.refuse(request, nbdErrno === NBD_ENOTSUP && !asked ? NBD_EINVAL : nbdErrno, error.code);
  }

  /** Answers with an error value. The message tells no more than the value: a client need not know paths. */
  refuse(request: Request, error: number, message = ''): void {
    if (request.region.arena) this.#output.undo(request.region);
    this.#writer.error(request, error, message);
  }

  #read(request: Request): MaybePromise<void> {
    const inPieces = this.#session.replies !== 'simple' && (request.flags & CMD_FLAG_DF) === 0;
    if (inPieces && request.length >= PIECES_FROM) {
      const pieces = readPieces(this.#served, request.offset, request.length);
      if (pieces !== undefined) return this.#readWithHoles(request, pieces);
    }
    return this.#readWhole(request);
  }

  #readWhole(request: Request): MaybePromise<void> {
    const { region, offset } = request;
    const place = this.#writer.reserveData(request);
    try {
      const io = this.#served.device.pread(place, offset);
      if (isPromise(io)) this.#output.detach(region);
      return io;
    } catch (error) {
      this.#output.undo(region);
      throw error;
    }
  }

  async #readWithHoles(request: Request, finding: MaybePromise<ReadPiece[] | undefined>): Promise<void> {
    const pieces = await finding;
    if (!pieces) {
      const io = this.#readWhole(request);
      if (!isPromise(io)) this.#output.detach(request.region); // the answer comes in a later turn all the same
      return io;
    }
    const places = this.#writer.reservePieces(request, pieces);
    this.#output.detach(request.region);
    request.pieces = pieces;
    const data = pieces.filter(({ hole }) => !hole);
    const { device } = this.#served;
    const reads = data.map(async ({ offset }, index) => device.pread(places[index] as Uint8Array, offset));
    const results = await Promise.allSettled(reads);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  async #status(request: Request): Promise<void> {
    const one = (request.flags & CMD_FLAG_REQ_ONE) !== 0;
    const { contexts = this.#session.contexts } = request;
    request.statuses = await blockStatus(contexts, request.offset, request.length, one);
  }

  /** Brings the range into the host's cache, by reading it. */
  async #cache(offset: number, length: number): Promise<void> {
    const buffer = this.#pool.take(CACHE_STEP);
    try {
      for (let at = 0; at < length; at += CACHE_STEP) {
        await this.#served.device.pread(buffer.subarray(0, Math.min(CACHE_STEP, length - at)), offset + at);
      }
    } finally {
      this.#pool.give(buffer);
    }
  }
}
