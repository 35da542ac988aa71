/** The side that uses a volume through the process that has it attached. */

import { connect, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import { type Frame, FrameReader } from './frame.ts';
import { FrameSender } from './frame-sender.ts';
import type { LockOwner } from './lock-table.ts';
import { errorFromWire, FAREWELL, HELLO, PROTOCOL_VERSION } from './place-protocol.ts';

/** The connection ended: what was asked was not answered. */
export class PlaceGone extends VimgError {
  /** It was said before that everything answered is durable, and that nothing unanswered was done. */
  readonly orderly: boolean;

  constructor(orderly: boolean) {
    super('IO', 'The process that had the volume attached has ended', {
      hint: 'what was flushed is there; do it again',
    });
    this.orderly = orderly;
  }
}

interface Waiting {
  /** Where the bytes of the answer go, when they are as many. */
  readonly into: Uint8Array | undefined;
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: VimgError) => void;
}

/** Bytes that are taken from the socket at once. */
const READ_BYTES = 256 * 1024;

/** A server that listens but does not greet is stuck. */
const HELLO_MS = 5000;

/** This process, as others see it. */
export function ownLockOwner(): LockOwner {
  const command = process.argv
    .join(' ')
    .replace(/\p{Cc}/gu, ' ')
    .slice(0, 200);
  return { host: hostname(), pid: process.pid, program: basename(process.argv[1] ?? process.title), command };
}

export class PlaceClient {
  readonly #socket: Socket;
  readonly #sender: FrameSender;
  readonly #reader = new FrameReader(({ id }, length) => {
    const into = this.#waiting.get(Number(id))?.into;
    return into?.length === length ? into : undefined;
  });
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #farewell = false;
  #gone: VimgError | undefined;
  #onGone: (gone: PlaceGone) => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#sender = new FrameSender(socket);
    socket.on('error', () => this.#end(new PlaceGone(this.#farewell)));
    socket.on('close', () => this.#end(new PlaceGone(this.#farewell)));
  }

  /** @throws VimgError `NOT_FOUND`, `IO` when nobody listens there; `UNSUPPORTED` for another version */
  static async connect(path: string): Promise<PlaceClient> {
    let client: PlaceClient | undefined;
    const onread = {
      buffer: Buffer.allocUnsafe(READ_BYTES),
      callback: (length: number, buffer: Uint8Array): boolean => {
        if (client) client.#receive(Buffer.from(buffer.buffer, buffer.byteOffset, length));
        return true;
      },
    };
    const socket = await new Promise<Socket>((resolve, reject) => {
      const opening = connect({ path, onread });
      opening.once('connect', () => resolve(opening));
      opening.once('error', (error) => reject(fromSystemError(error, { op: 'connect to', path })));
    });
    const made = new PlaceClient(socket);
    client = made;
    const timer = setTimeout(() => made.#end(new VimgError('IO', 'Nobody answers', { path })), HELLO_MS);
    try {
      await client.request({ method: HELLO, version: PROTOCOL_VERSION, owner: ownLockOwner() });
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** False once the other side has ended. */
  get alive(): boolean {
    return this.#gone === undefined;
  }

  /** @throws VimgError what the other side threw; {@link PlaceGone} when it ended */
  request(head: Frame['head'], body?: Uint8Array): Promise<Frame> {
    return this.#request(head, body, undefined);
  }

  /** Asks for bytes, which are put into `into`. @throws VimgError as `request`; then any part of it may be filled */
  async read(head: Frame['head'], into: Uint8Array): Promise<void> {
    const { body } = await this.#request(head, undefined, into);
    if (body !== into)
      throw new VimgError('IO', 'The process that has the volume sent too little', { op: 'read' });
  }

  async #request(
    head: Frame['head'],
    body: Uint8Array | undefined,
    into: Uint8Array | undefined,
  ): Promise<Frame> {
    if (this.#gone) throw this.#gone;
    const id = ++this.#lastId;
    const answer = new Promise<Frame>((resolve, reject) => this.#waiting.set(id, { into, resolve, reject }));
    try {
      this.#sender.send({ ...head, id }, body);
      return await answer;
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Calls when the other side has ended, also when it has already; not when it is this one that closes. */
  onGone(call: (gone: PlaceGone) => void): void {
    this.#onGone = call;
    if (this.#gone instanceof PlaceGone) call(this.#gone);
  }

  /** Whether the process may end while this is open. */
  unref(): void {
    this.#socket.unref();
  }

  close(): void {
    this.#end(new VimgError('IO', 'The connection to the volume is closed'));
  }

  #receive(chunk: Buffer): void {
    if (this.#gone) return;
    try {
      for (const frame of this.#reader.push(chunk)) this.#handle(frame);
    } catch (error) {
      if (!isVimgError(error)) throw error;
      this.#end(error);
    }
  }

  #handle(frame: Frame): void {
    const { id, event, error } = frame.head;
    if (event === FAREWELL) {
      this.#farewell = true;
      return;
    }
    const waiting = this.#waiting.get(Number(id));
    if (error === undefined) waiting?.resolve(frame);
    else waiting?.reject(errorFromWire(error));
  }

  #end(why: VimgError): void {
    if (this.#gone === undefined && why instanceof PlaceGone) queueMicrotask(() => this.#onGone(why));
    this.#gone ??= why;
    for (const { reject } of this.#waiting.values()) reject(this.#gone);
    this.#socket.destroy();
  }
}
