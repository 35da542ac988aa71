/**
 * A control socket: a process that holds disks does for other processes of the same user what they may not do
 * themselves meanwhile. Who may connect is decided by the socket's folder and mode (control-place.ts); where the kernel
 * tells who did, others than that user and root are hung up on.
 *
 * Bounds: connections, requests in flight of each, bytes of a message, the time until a client says hello, and what
 * waits to be sent (a client that does not read stops what it asked for).
 */
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import { peerUser } from '../host/peer-user.ts';
import { checkHello, HELLO, ownHello } from './hello.ts';
import { CANCEL, encodeMessage, type Message, MessageReader, PROGRESS } from './message.ts';
import { errorMessage } from './remote-error.ts';

/** A request under way. */
export interface ControlCall {
  /** Aborted when the client cancels, or is gone. */
  readonly signal: AbortSignal;
  /** Sends a part of the answer. A promise: wait for it before the next, the client is slow. */
  report(value: unknown): Promise<void> | undefined;
}

export type ControlMethod = (parameters: unknown, call: ControlCall) => Promise<unknown>;

const CONNECTIONS_MAX = 64;
const REQUESTS_MAX = 16;
const HELLO_MS = 5000;
const OWNER_ONLY = 0o177;

export class ControlServer {
  readonly path: string;
  readonly #server: Server;
  readonly #methods: ReadonlyMap<string, ControlMethod>;
  readonly #connections = new Set<ControlConnection>();
  #closed: Promise<void> | undefined;

  private constructor(path: string, methods: ReadonlyMap<string, ControlMethod>) {
    this.path = path;
    this.#methods = methods;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /**
   * Listens at a Unix socket of mode 0600; what has the name already is replaced.
   *
   * @param path in a folder that nobody else may use
   * @throws VimgError `IO`, `READ_ONLY` without permission
   */
  static async listen(path: string, methods: ReadonlyMap<string, ControlMethod>): Promise<ControlServer> {
    const server = new ControlServer(path, methods);
    await rm(path, { force: true });
    await server.#listen();
    return server;
  }

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void =>
        reject(fromSystemError(error, { op: 'make the control socket', path: this.path }));
      this.#server.once('error', failed);
      this.#server.once('listening', () => {
        this.#server.off('error', failed);
        this.#server.on('error', () => undefined); // a connection that could not be accepted: its client is told
        resolve();
      });
      const mask = process.umask(OWNER_ONLY); // the socket is made within `listen`, in this tick
      try {
        this.#server.listen(this.path);
      } finally {
        process.umask(mask);
      }
    });
  }

  /** Stops listening and ends what is under way; resolves once that has ended. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#closeNow();
    return this.#closed;
  }

  async #closeNow(): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await Promise.all([...this.#connections].map((connection) => connection.end()));
    await stopped;
  }

  #accept(socket: Socket): void {
    const user = peerUser(socket);
    if (user !== undefined && user !== 0 && user !== process.getuid?.()) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    const connection = new ControlConnection(socket, this.#methods, () =>
      this.#connections.delete(connection),
    );
    this.#connections.add(connection);
  }
}

class ControlConnection {
  readonly #socket: Socket;
  readonly #methods: ReadonlyMap<string, ControlMethod>;
  readonly #reader = new MessageReader();
  readonly #calls = new Map<number, AbortController>();
  readonly #running = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  #greeted = false;

  constructor(socket: Socket, methods: ReadonlyMap<string, ControlMethod>, onClosed: () => void) {
    this.#socket = socket;
    this.#methods = methods;
    this.#timer = setTimeout(() => socket.destroy(), HELLO_MS);
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(this.#timer);
      this.#cancelAll();
      onClosed();
    });
  }

  /** Cancels what is under way, waits for its end, and hangs up. */
  async end(): Promise<void> {
    this.#cancelAll();
    await Promise.all(this.#running);
    await new Promise<void>((resolve) => {
      if (this.#socket.closed) resolve();
      this.#socket.once('close', resolve);
      this.#socket.destroySoon();
    });
  }

  #cancelAll(): void {
    const reason = new VimgError('CANCELLED', 'Nobody waits for the answer any more');
    for (const call of this.#calls.values()) call.abort(reason);
  }

  #receive(chunk: Buffer): void {
    try {
      for (const message of this.#reader.push(chunk)) this.#handle(message);
    } catch (error) {
      if (!isVimgError(error)) throw error;
      this.#socket.destroy();
    }
  }

  #handle({ id, method, params }: Message): void {
    if (method === CANCEL) {
      const { id: which } = (params ?? {}) as { id?: number };
      this.#calls.get(which ?? -1)?.abort(new VimgError('CANCELLED', 'Cancelled'));
      return;
    }
    if (id === undefined || method === undefined) return;
    const running = this.#answer(id, method, params).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #answer(id: number, method: string, parameters: unknown): Promise<void> {
    let answer: Message;
    try {
      answer = { id, result: (await this.#call(id, method, parameters)) ?? null };
    } catch (error) {
      answer = errorMessage(id, error);
    }
    try {
      this.#send(answer);
    } catch (error) {
      this.#send(errorMessage(id, error)); // the answer is too long
    }
  }

  async #call(id: number, method: string, parameters: unknown): Promise<unknown> {
    if (!this.#greeted) {
      if (method !== HELLO) throw new VimgError('USAGE', 'The first request is hello');
      checkHello(parameters);
      this.#greeted = true;
      clearTimeout(this.#timer);
      return ownHello();
    }
    const found = this.#methods.get(method);
    if (!found) throw new VimgError('UNSUPPORTED', `There is no method '${method}' here`);
    if (this.#calls.size >= REQUESTS_MAX || this.#calls.has(id)) {
      throw new VimgError('LIMIT', `A client has at most ${REQUESTS_MAX} requests under way`);
    }
    const controller = new AbortController();
    this.#calls.set(id, controller);
    try {
      const { signal } = controller;
      const report = (value: unknown): Promise<void> | undefined =>
        this.#send({ method: PROGRESS, params: { token: id, value } }) ? undefined : this.#drained(signal);
      return await found(parameters, { signal, report });
    } finally {
      this.#calls.delete(id);
    }
  }

  /** @returns false when the client should be waited for */
  #send(message: Message): boolean {
    const line = encodeMessage(message);
    return this.#socket.writable ? this.#socket.write(line) : true;
  }

  /** Resolves when the client has taken what was sent. */
  #drained(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const stop = (): void => {
        this.#socket.off('drain', go);
        reject(signal.reason as Error);
      };
      const go = (): void => {
        signal.removeEventListener('abort', stop);
        resolve();
      };
      signal.addEventListener('abort', stop, { once: true });
      this.#socket.once('drain', go);
    });
  }
}
