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
import type { ServerLimits } from './server-limits.ts';
import { SocketInput } from './socket-input.ts';
import { Transmission, type TransmissionHost } from './transmission.ts';

/** What the connections of a server have in common. */
export interface ConnectionContext {
  readonly exports: ReadonlyMap<string, Export>;
  readonly limits: ServerLimits;
  readonly pool: BufferPool;
  readonly onError: (error: VimgError) => void;
}

export class Connection implements TransmissionHost {
  readonly #socket: Socket;
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
    this.#handshake = new Handshake(context.exports, this.#input, (bytes) => socket.write(bytes));
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('drain', () => this.#goOnNegotiating());
    socket.on('end', () => this.finish());
    socket.on('error', () => socket.destroy()); // a client that is gone: `close` follows
    socket.on('close', () => this.#onClose());
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
