/**
 * One client: a socket, first in the handshake phase, then in the transmission phase, then ending.
 *
 * Ending: no more requests are read; those in flight are answered; our side of the socket is closed, and the client
 * has a while to take what is on its way before the rest is cut off. A client that is gone is forgotten once the
 * device has finished with its requests.
 */
import type { Socket } from 'node:net';
import type { VimgError } from '../base/errors.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { Export } from './export.ts';
import { Handshake, type HandshakeStep, type Session } from './handshake.ts';
import type { MemoryBudget } from './memory-budget.ts';
import type { ServerLimits } from './server-limits.ts';
import { SocketInput } from './socket-input.ts';
import { protect, type ServerTls } from './tls-server.ts';
import { Transmission, type TransmissionHost } from './transmission.ts';

/** What the connections of a server have in common. */
export interface ConnectionContext {
  readonly exports: ReadonlyMap<string, Export>;
  readonly limits: ServerLimits;
  readonly pool: BufferPool;
  readonly budget: MemoryBudget;
  readonly onError: (error: VimgError) => void;
  /** Present: clients must use it. */
  readonly tls: ServerTls | undefined;
}

export class Connection implements TransmissionHost {
  #socket: Socket;
  readonly #context: ConnectionContext;
  readonly #input: SocketInput = new SocketInput();
  readonly #handshake: Handshake;
  readonly #onForgotten: (connection: Connection) => void;
  #transmission: Transmission | undefined;
  #timer: NodeJS.Timeout | undefined;
  #ending = false;
  #closed = false;
  #forgotten = false;

  /** @param onForgotten called once the socket is closed and the device has nothing of this client's any more */
  constructor(socket: Socket, context: ConnectionContext, onForgotten: (connection: Connection) => void) {
    this.#socket = socket;
    this.#context = context;
    this.#onForgotten = onForgotten;
    socket.setNoDelay(true);
    socket.setKeepAlive(true);
    this.#timer = setTimeout(() => socket.destroy(), context.limits.handshakeMs);
    const write = (bytes: Uint8Array): boolean => this.#socket.write(bytes);
    this.#handshake = new Handshake(context.exports, this.#input, write, context.tls ? 'required' : 'none');
    socket.on('error', () => socket.destroy()); // a client that is gone: `close` follows
    socket.on('close', () => this.#onClose());
    this.#listen(socket);
  }

  #listen(socket: Socket): void {
    socket.on('data', this.#onData);
    socket.on('drain', this.#onDrain);
    socket.on('end', this.#onEnd);
  }

  readonly #onData = (chunk: Buffer): void => this.#receive(chunk);
  readonly #onDrain = (): void => this.#goOnNegotiating();
  readonly #onEnd = (): void => this.finish();

  /** What came in the clear behind STARTTLS may be somebody else's: such a connection ends. */
  #secure(tls: ServerTls): void {
    const plain = this.#socket;
    if (this.#input.length > 0) {
      plain.destroy();
      return;
    }
    plain.off('data', this.#onData).off('drain', this.#onDrain).off('end', this.#onEnd);
    protect(plain, tls, (secured) => {
      secured.on('error', () => plain.destroy());
      this.#socket = secured;
      this.#listen(secured);
    });
  }

  /** Answers what is in flight, then ends. */
  finish(): void {
    if (this.#transmission) this.#transmission.stop();
    else this.#socket.destroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  violation(): void {
    this.#socket.destroy();
  }

  deviceError(error: VimgError): void {
    this.#context.onError(error);
  }

  drained(): void {
    if (this.#closed) this.#forget();
    else this.#end();
  }

  #receive(chunk: Buffer): void {
    if (this.#ending) return;
    this.#input.push(chunk);
    if (this.#transmission) this.#transmission.pump();
    else this.#negotiate();
  }

  #negotiate(): void {
    const socket = this.#socket;
    socket.cork();
    let step: HandshakeStep | undefined;
    // A client that takes no answers is asked for no more options.
    while (step === undefined && !socket.writableNeedDrain) step = this.#handshake.step();
    socket.uncork();
    if (step === undefined) socket.pause();
    else if (step === 'violation') socket.destroy();
    else if (step === 'end') this.#end();
    else if (step === 'secure') this.#secure(this.#context.tls as ServerTls);
    else if (step !== 'more') this.#enterTransmission(step);
  }

  #goOnNegotiating(): void {
    if (this.#transmission || this.#ending) return;
    this.#socket.resume();
    this.#negotiate();
  }

  #enterTransmission(session: Session): void {
    clearTimeout(this.#timer);
    this.#transmission = new Transmission(session, this.#input, this.#socket, this, this.#context);
    this.#transmission.pump();
  }

  /** Sends what was written, then closes. */
  #end(): void {
    if (this.#ending) return;
    this.#ending = true;
    const socket = this.#socket;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => socket.destroy(), this.#context.limits.shutdownMs);
    socket.end();
    socket.resume();
  }

  #onClose(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    if (this.#transmission) this.#transmission.abandon();
    else this.#forget();
  }

  #forget(): void {
    if (this.#forgotten) return;
    this.#forgotten = true;
    this.#onForgotten(this);
  }
}
