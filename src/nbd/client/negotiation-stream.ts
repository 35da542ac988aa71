/** A socket during the handshake: bytes in the order and number that are asked for, within a time. */
import type { Socket } from 'node:net';
import { fromSystemError, VimgError } from '../../base/errors.ts';
import { SocketInput } from '../socket-input.ts';

export class NegotiationStream {
  readonly #path: string;
  readonly #input = new SocketInput();
  #socket: Socket;
  #failure: VimgError | undefined;
  #wake: (() => void) | undefined;

  constructor(socket: Socket, path: string) {
    this.#path = path;
    this.#socket = socket;
    this.#listen(socket);
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** Bytes that arrived and were not read. */
  get buffered(): number {
    return this.#input.length;
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** @throws VimgError `IO` when the connection ends before */
  async read(length: number): Promise<Buffer> {
    while (this.#input.length < length) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = Buffer.allocUnsafe(length);
    this.#input.copyTo(bytes, 0, length);
    return bytes;
  }

  /** Waits until the socket is connected. */
  async connected(event: 'connect' | 'secureConnect'): Promise<void> {
    let isConnected = false;
    this.#socket.once(event, () => {
      isConnected = true;
      this.#wake?.();
    });
    while (!isConnected) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Goes on over another socket, which carries the first one's bytes. */
  replace(socket: Socket): void {
    this.#unlisten();
    this.#socket = socket;
    this.#listen(socket);
  }

  fail(error: VimgError): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  /**
   * Ends the handshake: the socket, and what had arrived already, are the caller's.
   *
   * @throws VimgError `IO` when the connection has ended, though everything that was read had arrived before
   */
  release(): { socket: Socket; input: SocketInput } {
    if (this.#failure) throw this.#failure;
    this.#unlisten();
    return { socket: this.#socket, input: this.#input };
  }

  #listen(socket: Socket): void {
    socket.on('data', this.#onData);
    socket.on('error', this.#onError);
    socket.on('close', this.#onClose);
  }

  #unlisten(): void {
    const socket = this.#socket;
    socket.pause();
    socket.off('data', this.#onData);
    socket.off('error', this.#onError);
    socket.off('close', this.#onClose);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#input.push(chunk);
    this.#wake?.();
  };

  readonly #onError = (error: Error): void => {
    this.fail(fromSystemError(error, { op: 'connect', path: this.#path }));
  };

  readonly #onClose = (): void => {
    this.fail(new VimgError('IO', 'The server closed the connection', { op: 'connect', path: this.#path }));
  };
}
