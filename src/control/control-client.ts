/** The other end of a control socket: asks, waits, cancels. */
import { connect, type Socket } from 'node:net';
import { fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import { checkHello, HELLO, ownHello } from './hello.ts';
import { CANCEL, encodeMessage, type Message, MessageReader, PROGRESS } from './message.ts';
import { remoteError } from './remote-error.ts';

export interface ControlRequestOptions {
  /** Asks the other side to stop; the request then fails as that side says. */
  readonly signal?: AbortSignal;
  /** Told of each part of the answer, in order. */
  readonly onReport?: (value: unknown) => void;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onReport: ((value: unknown) => void) | undefined;
}

/** A server that listens but does not greet is stuck. */
const HELLO_MS = 5000;

export class ControlClient {
  readonly #socket: Socket;
  readonly #reader = new MessageReader();
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #failure: VimgError | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('error', (error) =>
      this.#fail(fromSystemError(error, { op: 'talk to the process that has the disk' })),
    );
    socket.on('close', () => this.#fail(new VimgError('IO', 'The process that has the disk hung up')));
  }

  /** @throws VimgError `NOT_FOUND`, `IO` when nobody answers, `UNSUPPORTED` for another version */
  static async connect(path: string): Promise<ControlClient> {
    const socket = await new Promise<Socket>((resolve, reject) => {
      const opening = connect(path);
      opening.once('connect', () => resolve(opening));
      opening.once('error', (error) => reject(fromSystemError(error, { op: 'connect to', path })));
    });
    const client = new ControlClient(socket);
    const timer = setTimeout(() => client.#fail(new VimgError('IO', 'Nobody answers', { path })), HELLO_MS);
    try {
      checkHello(await client.request(HELLO, ownHello()));
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @throws VimgError what the other side threw; `IO` when it ended */
  async request(method: string, parameters: unknown, options: ControlRequestOptions = {}): Promise<unknown> {
    if (this.#failure) throw this.#failure;
    const { signal, onReport } = options;
    const id = ++this.#lastId;
    const cancel = (): void => {
      if (this.#socket.writable) this.#socket.write(encodeMessage({ method: CANCEL, params: { id } }));
    };
    this.#socket.write(encodeMessage({ id, method, params: parameters }));
    if (signal?.aborted) cancel();
    signal?.addEventListener('abort', cancel);
    try {
      return await new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject, onReport }));
    } finally {
      signal?.removeEventListener('abort', cancel);
      this.#waiting.delete(id);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    try {
      for (const message of this.#reader.push(chunk)) this.#handle(message);
    } catch (error) {
      if (!isVimgError(error)) throw error;
      this.#fail(error);
    }
  }

  #handle({ id, method, params, result, error }: Message): void {
    if (method === PROGRESS) {
      const { token, value } = (params ?? {}) as { token?: number; value?: unknown };
      this.#waiting.get(token ?? -1)?.onReport?.(value);
      return;
    }
    const waiting = this.#waiting.get(id ?? -1);
    if (error) waiting?.reject(remoteError(error));
    else waiting?.resolve(result);
  }

  #fail(error: VimgError): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#socket.destroy();
  }
}
