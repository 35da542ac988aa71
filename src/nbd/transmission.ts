/**
 * The server's side of the transmission phase of one connection: takes requests off the input, lets in as many as the
 * limits allow, and answers them.
 *
 * Back-pressure: a request is let in only while the client's requests in flight and bytes in memory are within the
 * limits; until then the rest stays in the input and the socket is not read. Data of a WRITE that lies in one piece
 * is written from where it arrived; else it is put together in a buffer of the pool.
 *
 * Invariant: every request that was let in is answered exactly once, or its client is gone; the device never works
 * for a WRITE whose data did not arrive completely.
 */
import type { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { BufferPool } from './buffer-pool.ts';
import { CommandRunner } from './command-runner.ts';
import type { Session } from './handshake.ts';
import { CMD_CACHE, CMD_DISC, CMD_READ, CMD_WRITE, REQUEST, REQUEST_MAGIC } from './protocol.ts';
import { ReplyOutput, type ReplySink } from './reply-output.ts';
import { Request, type RequestOwner } from './request.ts';
import { refusal } from './request-check.ts';
import { PAYLOAD_MAX, type ServerLimits } from './server-limits.ts';
import type { SocketInput } from './socket-input.ts';

/** What the connection does for its transmission phase. */
export interface TransmissionHost {
  /** Stop reading the socket, or go on. */
  pause(): void;
  resume(): void;
  /** The client broke the protocol beyond repair: a hard disconnect. */
  violation(): void;
  /** No more requests are read, and all are answered. */
  drained(): void;
  deviceError(error: VimgError): void;
}

/** Memory of a request that moves no payload: replies to BLOCK_STATUS are the largest. */
const SMALL_COST = 32 * 1024;
const CACHE_COST = 256 * 1024;
const IDLE_REQUESTS_MAX = 128;

export class Transmission implements RequestOwner {
  readonly #session: Session;
  readonly #input: SocketInput;
  readonly #host: TransmissionHost;
  readonly #limits: ServerLimits;
  readonly #pool: BufferPool;
  readonly #output: ReplyOutput;
  readonly #runner: CommandRunner;
  readonly #idle: Request[] = [];
  #inFlight = 0;
  #inFlightBytes = 0;
  /** A WRITE whose data is arriving; with `#dropLeft`, one whose data is dropped because it is refused. */
  #arriving: Request | undefined;
  #dropLeft = 0;
  #refusedWith = 0;
  #paused = false;
  #stopped = false;
  #gone = false;
  #pumping = false;
  #flushPlanned = false;

  constructor(
    session: Session,
    input: SocketInput,
    socket: ReplySink,
    host: TransmissionHost,
    shared: { readonly limits: ServerLimits; readonly pool: BufferPool },
  ) {
    this.#session = session;
    this.#input = input;
    this.#host = host;
    this.#limits = shared.limits;
    this.#pool = shared.pool;
    this.#output = new ReplyOutput(socket, shared.pool, () => {
      if (this.#paused) this.pump();
    });
    this.#runner = new CommandRunner(session, this.#output, shared.pool, (error) => host.deviceError(error));
  }

  /** Requests that are not answered yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Takes requests off the input, as many as may be let in, and sends what was answered meanwhile. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    let waits = false;
    while (!this.#stopped) {
      if (this.#arriving) {
        if (!this.#receive(this.#arriving)) break;
        continue;
      }
      if (this.#input.length < REQUEST.size) break;
      const buffer = this.#input.peek(REQUEST.size);
      const at = this.#input.offsetIn(buffer);
      if (!this.#mayLetIn(buffer, at)) {
        waits = true;
        break;
      }
      this.#letIn(buffer, at);
    }
    this.#output.flush();
    this.#pumping = false;
    this.#waitOrGoOn(waits);
  }

  /** Reads no more requests; `drained` is called once those in flight are answered. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#abandonArriving();
    this.#checkDrained();
  }

  /** The client is gone: nothing is answered any more. Requests in flight still end, and give back what they hold. */
  abandon(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#stopped = true;
    this.#output.close();
    this.#abandonArriving();
    this.#checkDrained();
  }

  completed(request: Request): void {
    this.#advance(request);
  }

  failed(request: Request, error: unknown): void {
    this.#runner.fail(request, error);
    this.#finish(request);
  }

  #waitOrGoOn(waits: boolean): void {
    if (waits === this.#paused || this.#stopped) return;
    this.#paused = waits;
    if (waits) this.#host.pause();
    else this.#host.resume();
  }

  #mayLetIn(buffer: Buffer, at: number): boolean {
    if (this.#inFlight >= this.#limits.requests) return false;
    const held = this.#inFlightBytes + this.#output.unsentBytes;
    if (held === 0) return true;
    const cost = costOf(buffer.readUInt16BE(at + 6), buffer.readUInt32BE(at + 24));
    return held + cost <= this.#limits.bufferedBytes;
  }

  /** Takes one request off the input and starts it. */
  #letIn(buffer: Buffer, at: number): void {
    const type = buffer.readUInt16BE(at + 6);
    if (buffer.readUInt32BE(at) !== REQUEST_MAGIC) {
      this.#stopped = true;
      this.#host.violation();
      return;
    }
    const request = this.#idle.pop() ?? new Request(this);
    request.flags = buffer.readUInt16BE(at + 4);
    request.type = type;
    request.cookieHigh = buffer.readUInt32BE(at + 8);
    request.cookieLow = buffer.readUInt32BE(at + 12);
    request.offset = buffer.readUInt32BE(at + 16) * 0x1_0000_0000 + buffer.readUInt32BE(at + 20);
    request.length = buffer.readUInt32BE(at + 24);
    this.#input.skip(REQUEST.size);
    if (type === CMD_DISC) {
      this.#idle.push(request);
      this.stop();
      return;
    }
    this.#inFlight++;
    this.#inFlightBytes += costOf(type, request.length);
    const error = refusal(request, this.#session);
    if (type === CMD_WRITE && request.length > 0) this.#expectData(request, error);
    else if (error !== 0) this.#refuse(request, error);
    else this.#run(request);
  }

  #expectData(request: Request, error: number): void {
    const { length } = request;
    if (error === 0 && this.#input.inOnePiece >= length) {
      request.payload = this.#input.take(length);
      this.#run(request);
      return;
    }
    this.#arriving = request;
    this.#refusedWith = error;
    if (error !== 0) {
      this.#dropLeft = length;
      return;
    }
    request.pooled = this.#pool.take(length);
    request.payload = request.pooled.subarray(0, length);
  }

  /** Takes data of the WRITE that is arriving. False when more must come. */
  #receive(request: Request): boolean {
    if (this.#refusedWith !== 0) {
      this.#dropLeft -= this.#input.skip(this.#dropLeft);
      if (this.#dropLeft > 0) return false;
      this.#arriving = undefined;
      this.#refuse(request, this.#refusedWith);
      return true;
    }
    const { payload, length } = request;
    request.filled += this.#input.copyTo(payload as Buffer, request.filled, length - request.filled);
    if (request.filled < length) return false;
    this.#arriving = undefined;
    this.#run(request);
    return true;
  }

  #abandonArriving(): void {
    const request = this.#arriving;
    if (!request) return;
    this.#arriving = undefined;
    this.#finish(request);
  }

  #refuse(request: Request, error: number): void {
    this.#runner.refuse(request, error);
    this.#finish(request);
  }

  #run(request: Request): void {
    let work: MaybePromise<void>;
    try {
      work = this.#runner.start(request);
    } catch (error) {
      this.failed(request, error);
      return;
    }
    if (isPromise(work)) this.#await(request, work);
    else this.#advance(request);
  }

  /** The work is done: flush where the client asks for it, then answer. */
  #advance(request: Request): void {
    let work: MaybePromise<void>;
    try {
      work = this.#runner.afterwards(request);
    } catch (error) {
      this.failed(request, error);
      return;
    }
    if (isPromise(work)) {
      this.#await(request, work);
      return;
    }
    this.#runner.succeed(request);
    this.#finish(request);
  }

  #await(request: Request, work: Promise<void>): void {
    request.later = true;
    // A failure inside these two is a bug, and ends the process as an unhandled rejection.
    void work.then(request.onCompleted, request.onFailed);
  }

  #finish(request: Request): void {
    this.#inFlight--;
    this.#inFlightBytes -= costOf(request.type, request.length);
    if (request.pooled) this.#pool.give(request.pooled);
    const { later } = request;
    request.reset();
    if (this.#idle.length < IDLE_REQUESTS_MAX) this.#idle.push(request);
    if (later) this.#planFlush();
  }

  /** Replies that become ready in one turn of the event loop leave together, at its end. */
  #planFlush(): void {
    if (this.#flushPlanned) return;
    this.#flushPlanned = true;
    setImmediate(this.#flushNow);
  }

  readonly #flushNow = (): void => {
    this.#flushPlanned = false;
    if (this.#paused && !this.#stopped) this.pump();
    else this.#output.flush();
    this.#checkDrained();
  };

  #checkDrained(): void {
    if (!this.#stopped || this.#inFlight > 0) return;
    this.#output.flush();
    this.#host.drained();
  }
}

/** Bytes that a request may take of this client's memory while it is in flight. */
function costOf(type: number, length: number): number {
  if (type === CMD_READ || type === CMD_WRITE) return Math.min(length, PAYLOAD_MAX) + REQUEST.size;
  return type === CMD_CACHE ? CACHE_COST : SMALL_COST;
}
