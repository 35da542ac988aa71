/**
 * The server's side of the transmission phase of one connection: takes requests off the input, lets in as many as the
 * limits allow, and answers them.
 *
 * Back-pressure: a request is let in only while the client's requests in flight and bytes in memory are within the
 * limits, and there is memory for it (memory-budget.ts); until then the rest stays in the input and the socket is not read. Data of a WRITE that lies in one piece
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
import type { MemoryBudget, MemoryShare } from './memory-budget.ts';
import { CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_READ, CMD_WRITE } from './protocol.ts';
import { ReplyOutput, type ReplySink } from './reply-output.ts';
import { Request, type RequestOwner } from './request.ts';
import { refusal, statusPayloadRefusal } from './request-check.ts';
import { headerBytes, readHeader } from './request-header.ts';
import type { RequestStatistics } from './request-statistics.ts';
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

/** Memory of a request that moves no payload. */
const HEAD_COST = 64;
const SMALL_COST = 1024;
/** Of one context's extents in the answer to BLOCK_STATUS. */
const STATUS_COST = 32 * 1024;
const CACHE_COST = 256 * 1024;
const IDLE_REQUESTS_MAX = 128;

export class Transmission implements RequestOwner {
  readonly #session: Session;
  readonly #input: SocketInput;
  readonly #host: TransmissionHost;
  readonly #limits: ServerLimits;
  readonly #pool: BufferPool;
  readonly #output: ReplyOutput;
  /** Of the memory of all clients. */
  readonly #share: MemoryShare;
  readonly #runner: CommandRunner;
  readonly #idle: Request[] = [];
  readonly #extended: boolean;
  readonly #headBytes: number;
  readonly #statistics: RequestStatistics | undefined;
  #inFlight = 0;
  #inFlightBytes = 0;
  /** A request that is read, and waits to be let in. */
  #next: Request | undefined;
  /** A request whose payload is arriving; with `#dropLeft`, one whose payload is dropped because it is refused. */
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
    shared: { readonly limits: ServerLimits; readonly pool: BufferPool; readonly budget: MemoryBudget },
  ) {
    this.#session = session;
    this.#input = input;
    this.#host = host;
    this.#limits = shared.limits;
    this.#statistics = session.served.statistics;
    this.#pool = shared.pool;
    this.#extended = session.replies === 'extended';
    this.#headBytes = headerBytes(this.#extended);
    this.#share = shared.budget.share(() => this.pump());
    this.#output = new ReplyOutput(socket, shared.pool, () => {
      if (this.#paused) this.pump();
      else this.#share.hold(this.#heldBytes());
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
      const next = this.#next ?? this.#readNext();
      if (next === undefined) break;
      if (!this.#mayLetIn(next)) {
        waits = true;
        break;
      }
      this.#next = undefined;
      this.#letIn(next);
    }
    this.#output.flush();
    this.#pumping = false;
    this.#share.hold(this.#heldBytes());
    this.#waitOrGoOn(waits);
  }

  /** Reads no more requests; `drained` is called once those in flight are answered. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#share.leave();
    this.#abandonArriving();
    this.#checkDrained();
  }

  /** The client is gone: nothing is answered any more. Requests in flight still end, and give back what they hold. */
  abandon(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#stopped = true;
    this.#output.close();
    this.#share.leave();
    this.#abandonArriving();
    this.#checkDrained();
  }

  completed(request: Request): void {
    this.#advance(request);
  }

  failed(request: Request, error: unknown): void {
    request.failed = true;
    this.#runner.fail(request, error);
    this.#finish(request);
  }

  #waitOrGoOn(waits: boolean): void {
    if (waits === this.#paused || this.#stopped) return;
    this.#paused = waits;
    if (waits) this.#host.pause();
    else this.#host.resume();
  }

  /** Takes the header of a request off the input. Undefined: it is not there yet, or no more are read. */
  #readNext(): Request | undefined {
    if (this.#input.length < this.#headBytes) return undefined;
    const buffer = this.#input.peek(this.#headBytes);
    const request = this.#idle.pop() ?? new Request(this);
    if (!readHeader(request, buffer, this.#input.offsetIn(buffer), this.#extended)) {
      this.#stopped = true;
      this.#host.violation();
      return undefined;
    }
    this.#input.skip(this.#headBytes);
    if (request.type === CMD_DISC) {
      this.#idle.push(request);
      this.stop();
      return undefined;
    }
    this.#next = request;
    return request;
  }

  #mayLetIn(request: Request): boolean {
    if (this.#inFlight >= this.#limits.requests) return false;
    const held = this.#heldBytes();
    const cost = this.#costOf(request);
    if (held > 0 && held + cost > this.#limits.bufferedBytes) return false;
    return this.#share.mayHave(held, cost);
  }

  #heldBytes(): number {
    return this.#gone ? this.#inFlightBytes : this.#inFlightBytes + this.#output.unsentBytes;
  }

  /** Starts a request. */
  #letIn(request: Request): void {
    this.#inFlight++;
    if (this.#statistics) {
      request.startedMs = performance.now();
      this.#statistics.started();
    }
    request.cost = this.#costOf(request);
    this.#inFlightBytes += request.cost;
    const error = refusal(request, this.#session);
    if (request.payloadLength > 0) this.#expectPayload(request, error);
    else if (error !== 0) this.#refuse(request, error);
    else this.#run(request);
  }

  #expectPayload(request: Request, error: number): void {
    const length = request.payloadLength;
    if (error === 0 && this.#input.inOnePiece >= length) {
      request.payload = this.#input.take(length);
      this.#payloadArrived(request);
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

  #payloadArrived(request: Request): void {
    const error = request.type === CMD_BLOCK_STATUS ? statusPayloadRefusal(request, this.#session) : 0;
    if (error !== 0) this.#refuse(request, error);
    else this.#run(request);
  }

  /** Takes payload of the request that is arriving. False when more must come. */
  #receive(request: Request): boolean {
    if (this.#refusedWith !== 0) {
      this.#dropLeft -= this.#input.skip(this.#dropLeft);
      if (this.#dropLeft > 0) return false;
      this.#arriving = undefined;
      this.#refuse(request, this.#refusedWith);
      return true;
    }
    const { payload, payloadLength } = request;
    request.filled += this.#input.copyTo(payload as Buffer, request.filled, payloadLength - request.filled);
    if (request.filled < payloadLength) return false;
    this.#arriving = undefined;
    this.#payloadArrived(request);
    return true;
  }

  #abandonArriving(): void {
    const request = this.#arriving;
    if (!request) return;
    this.#arriving = undefined;
    this.#finish(request);
  }

  #refuse(request: Request, error: number): void {
    request.failed = true;
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
    this.#inFlightBytes -= request.cost;
    if (request.pooled) this.#pool.give(request.pooled);
    const { later } = request;
    if (this.#statistics) {
      const micros = (performance.now() - request.startedMs) * 1000;
      this.#statistics.finished(request.type, request.length, micros, request.failed, !later);
    }
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
    if (!this.#stopped) return;
    this.#share.hold(this.#heldBytes());
    if (this.#inFlight > 0) return;
    this.#output.flush();
    this.#host.drained();
  }

  /** Bytes that a request may take of this client's memory while it is in flight. */
  #costOf({ type, length }: Request): number {
    if (type === CMD_READ || type === CMD_WRITE) return Math.min(length, PAYLOAD_MAX) + HEAD_COST;
    if (type === CMD_BLOCK_STATUS) return STATUS_COST * this.#session.contexts.length + SMALL_COST;
    return type === CMD_CACHE ? CACHE_COST : SMALL_COST;
  }
}
