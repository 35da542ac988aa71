/** An NBD client that does what it is told, right or wrong: the tests' view of the wire. Built on the layouts. */
import { connect, type Socket } from 'node:net';
import type { ListenAddress } from '../../src/nbd/listen-address.ts';
import {
  CMD_FLAG_PAYLOAD_LEN,
  EXTENDED_REPLY,
  EXTENDED_REQUEST,
  EXTENDED_REQUEST_MAGIC,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  OPTION_HEADER,
  OPTION_MAGIC,
  OPTION_REPLY,
  type OptionReply,
  REP_ACK,
  REPLY_FLAG_DONE,
  REQUEST,
  REQUEST_MAGIC,
  SERVER_GREETING,
  type ServerGreeting,
  SIMPLE_REPLY,
  type SimpleReply,
  STRUCTURED_REPLY,
  type StructuredReply,
} from '../../src/nbd/protocol.ts';

export type AnsweredOption = OptionReply & { readonly data: Buffer };
export type Chunk = StructuredReply & { readonly payload: Buffer; readonly offset?: bigint };

export interface SentRequest {
  readonly type: number;
  readonly flags?: number;
  readonly cookie?: bigint;
  readonly offset?: number | bigint;
  readonly length?: number | bigint;
  readonly data?: Uint8Array;
}

/** What is negotiated before the transmission phase. */
export interface Choice {
  readonly name?: string;
  readonly structured?: boolean;
  readonly extended?: boolean;
  readonly contexts?: readonly string[];
}

export class RawClient {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  #arrived: Buffer[] = [];
  #length = 0;
  #isClosed = false;
  #extended = false;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#arrived.push(chunk);
      this.#length += chunk.length;
      this.#wake();
    });
    socket.on('error', () => socket.destroy());
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#isClosed = true;
        this.#wake();
        resolve();
      });
    });
  }

  static connect(address: ListenAddress): Promise<RawClient> {
    const socket =
      'socketPath' in address ? connect(address.socketPath) : connect(address.port, address.host);
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('connect', () => resolve(new RawClient(socket)));
    });
  }

  /** Whether the transmission phase has extended headers. */
  get extended(): boolean {
    return this.#extended;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next bytes. @throws Error when the server closes before they came */
  async read(length: number): Promise<Buffer> {
    while (this.#length < length) {
      if (this.#isClosed) throw new Error('the server closed the connection');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = Buffer.concat(this.#arrived);
    this.#arrived = [all.subarray(length)];
    this.#length -= length;
    return all.subarray(0, length);
  }

  async greet(flags: number = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES): Promise<ServerGreeting> {
    const greeting = SERVER_GREETING.decode(await this.read(SERVER_GREETING.size));
    this.send(u32(flags));
    return greeting;
  }

  sendOption(option: number, data: Uint8Array = Buffer.alloc(0), length: number = data.length): void {
    this.send(OPTION_HEADER.encode({ magic: OPTION_MAGIC, option, length }));
    this.send(data);
  }

  async optionReply(): Promise<AnsweredOption> {
    const reply = OPTION_REPLY.decode(await this.read(OPTION_REPLY.size));
    return { ...reply, data: await this.read(reply.length) };
  }

  /** Sends an option. Returns its replies up to the acknowledgement or the error, that included. */
  async option(option: number, data?: Uint8Array): Promise<AnsweredOption[]> {
    this.sendOption(option, data);
    const replies: AnsweredOption[] = [];
    for (;;) {
      const reply = await this.optionReply();
      replies.push(reply);
      if (reply.type === REP_ACK || reply.type >= 0x8000_0000) return replies;
    }
  }

  /** Greets, chooses, and enters the transmission phase. */
  async enter(choice: Choice = {}): Promise<void> {
    const { name = '', extended = false, structured = !extended, contexts = [] } = choice;
    await this.greet();
    if (extended) await this.option(OPT_EXTENDED_HEADERS);
    this.#extended = extended;
    if (structured) await this.option(OPT_STRUCTURED_REPLY);
    if (contexts.length > 0) await this.option(OPT_SET_META_CONTEXT, contextData(name, contexts));
    const replies = await this.option(OPT_GO, infoData(name));
    if (replies.at(-1)?.type !== REP_ACK) throw new Error('the server refused GO');
  }

  sendRequest({ type, flags = 0, cookie = 1n, offset = 0, length = 0, data }: SentRequest): void {
    const head = { flags, type, cookie, offset: BigInt(offset) };
    if (this.#extended) {
      const all = data ? flags | CMD_FLAG_PAYLOAD_LEN : flags;
      const magic = EXTENDED_REQUEST_MAGIC;
      this.send(EXTENDED_REQUEST.encode({ ...head, magic, flags: all, length: BigInt(length) }));
    } else {
      this.send(REQUEST.encode({ ...head, magic: REQUEST_MAGIC, length: Number(length) }));
    }
    if (data) this.send(data);
  }

  async simpleReply(): Promise<SimpleReply> {
    return SIMPLE_REPLY.decode(await this.read(SIMPLE_REPLY.size));
  }

  /** The error value of a request that is answered by a simple reply. */
  async ask(request: SentRequest): Promise<number> {
    this.sendRequest(request);
    return (await this.simpleReply()).error;
  }

  async chunk(): Promise<Chunk> {
    if (this.#extended) {
      const { length, ...head } = EXTENDED_REPLY.decode(await this.read(EXTENDED_REPLY.size));
      return { ...head, length: Number(length), payload: await this.read(Number(length)) };
    }
    const head = STRUCTURED_REPLY.decode(await this.read(STRUCTURED_REPLY.size));
    return { ...head, payload: await this.read(head.length) };
  }

  /** All chunks of one structured reply. */
  async chunks(request: SentRequest): Promise<Chunk[]> {
    this.sendRequest(request);
    const chunks: Chunk[] = [];
    for (;;) {
      const chunk = await this.chunk();
      chunks.push(chunk);
      if ((chunk.flags & REPLY_FLAG_DONE) !== 0) return chunks;
    }
  }

  /** The error value of a request that is answered by a structured error. */
  async askStructured(request: SentRequest): Promise<number> {
    const [chunk] = await this.chunks(request);
    return chunk && chunk.type >= 0x8000 ? chunk.payload.readUInt32BE(0) : 0;
  }

  close(): void {
    this.socket.destroy();
  }
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function text(value: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);
}

/** Data of INFO and GO. */
export function infoData(name: string, wanted: readonly number[] = []): Buffer {
  return Buffer.concat([text(name), u16(wanted.length), ...wanted.map(u16)]);
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextData(name: string, queries: readonly string[]): Buffer {
  return Buffer.concat([text(name), u32(queries.length), ...queries.map(text)]);
}
