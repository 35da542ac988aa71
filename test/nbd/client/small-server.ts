/**
 * A server that keeps to the protocol in the handshake, and leaves the answers to requests to the test. One export of one
 * size, whatever its name.
 */
import { createServer, type Socket } from 'node:net';
import {
  CMD_FLAG_PAYLOAD_LEN,
  CMD_WRITE,
  EXTENDED_REPLY,
  EXTENDED_REPLY_MAGIC,
  EXTENDED_REQUEST,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  INFO_EXPORT,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_SET_META_CONTEXT,
  OPT_STRUCTURED_REPLY,
  OPTION_HEADER,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  REP_ACK,
  REP_ERR_UNSUP,
  REP_INFO,
  REP_META_CONTEXT,
  REPLY_FLAG_DONE,
  REQUEST,
  SEND_FLUSH,
  SEND_HAS_FLAGS,
  SEND_TRIM,
  SEND_WRITE_ZEROES,
  SERVER_GREETING,
  SERVER_MAGIC,
  SIMPLE_REPLY,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY,
  STRUCTURED_REPLY_MAGIC,
} from '../../../src/nbd/protocol.ts';

export type Replies = 'simple' | 'structured' | 'extended';

/** The number that `base:allocation` has here. */
export const ALLOCATION_ID = 7;

export interface Asked {
  readonly type: number;
  readonly flags: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
  readonly data: Buffer;
}

export interface SmallServerOptions {
  readonly replies: Replies;
  readonly size: number;
  /** Transmission flags besides HAS_FLAGS, FLUSH, TRIM and WRITE_ZEROES. */
  readonly flags?: number;
  /** What is said instead of an answer of the handshake. */
  readonly garble?: (answer: Buffer) => Buffer;
  /** @param connection counted from 0 */
  readonly onRequest: (asked: Asked, socket: Socket, connection: number) => void;
}

export interface SmallServer {
  /** Connections that entered the transmission phase. */
  readonly entered: () => number;
  readonly close: () => Promise<void>;
}

export async function smallServer(socketPath: string, options: SmallServerOptions): Promise<SmallServer> {
  const sockets = new Set<Socket>();
  let entered = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    void attend(socket, options, () => entered++);
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    entered: () => entered,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

async function attend(socket: Socket, options: SmallServerOptions, onEnter: () => number): Promise<void> {
  const incoming = new Incoming(socket);
  const { garble = (answer: Buffer) => answer } = options;
  socket.write(garble(greeting()));
  if (!(await incoming.take(4))) return;
  for (let last = -1; last !== OPT_GO; ) {
    const head = await incoming.take(OPTION_HEADER.size);
    if (!head) return;
    const { option, length } = OPTION_HEADER.decode(head);
    if (!(await incoming.take(length))) return;
    socket.write(garble(answersTo(option, options)));
    last = option;
  }
  const connection = onEnter();
  const isExtended = options.replies === 'extended';
  for (;;) {
    const head = await incoming.take((isExtended ? EXTENDED_REQUEST : REQUEST).size);
    if (!head) return;
    const { type, flags, cookie, offset, length } = isExtended
      ? EXTENDED_REQUEST.decode(head)
      : REQUEST.decode(head);
    const carries = isExtended ? (flags & CMD_FLAG_PAYLOAD_LEN) !== 0 : type === CMD_WRITE;
    const data = await incoming.take(carries ? Number(length) : 0);
    if (!data) return;
    options.onRequest(
      { type, flags, cookie, offset: Number(offset), length: Number(length), data },
      socket,
      connection,
    );
  }
}

function greeting(): Buffer {
  const flags = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
  return Buffer.from(SERVER_GREETING.encode({ magic: SERVER_MAGIC, optionMagic: OPTION_MAGIC, flags }));
}

function answersTo(option: number, { replies, size, flags = 0 }: SmallServerOptions): Buffer {
  const reply = (type: number, data = Buffer.alloc(0)): Buffer =>
    Buffer.concat([
      OPTION_REPLY.encode({ magic: OPTION_REPLY_MAGIC, option, type, length: data.length }),
      data,
    ]);
  switch (option) {
    case OPT_EXTENDED_HEADERS:
      return reply(replies === 'extended' ? REP_ACK : REP_ERR_UNSUP);
    case OPT_STRUCTURED_REPLY:
      return reply(replies === 'simple' ? REP_ERR_UNSUP : REP_ACK);
    case OPT_SET_META_CONTEXT: {
      const context = Buffer.concat([u32(ALLOCATION_ID), Buffer.from('base:allocation')]);
      return Buffer.concat([reply(REP_META_CONTEXT, context), reply(REP_ACK)]);
    }
    case OPT_GO: {
      const info = Buffer.alloc(12);
      info.writeUInt16BE(INFO_EXPORT, 0);
      info.writeBigUInt64BE(BigInt(size), 2);
      info.writeUInt16BE(flags | SEND_HAS_FLAGS | SEND_FLUSH | SEND_TRIM | SEND_WRITE_ZEROES, 10);
      return Buffer.concat([reply(REP_INFO, info), reply(REP_ACK)]);
    }
    default:
      return reply(REP_ERR_UNSUP);
  }
}

/** What a socket brings, in the portions that are asked for; nothing more once it has ended. */
class Incoming {
  #bytes = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  async take(length: number): Promise<Buffer | undefined> {
    while (this.#bytes.length < length) {
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return taken;
  }
}

export interface ReplyChunk {
  readonly type: number;
  readonly payload: Buffer;
  readonly done: boolean;
}

export function simpleReply(cookie: bigint, error: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([SIMPLE_REPLY.encode({ magic: SIMPLE_REPLY_MAGIC, error, cookie }), data]);
}

/** @param length what the header says; default the length of the payload */
export function chunkReply(
  replies: Replies,
  { cookie, offset }: Pick<Asked, 'cookie' | 'offset'>,
  { type, payload, done }: ReplyChunk,
  length: number = payload.length,
): Buffer {
  const flags = done ? REPLY_FLAG_DONE : 0;
  const header =
    replies === 'extended'
      ? EXTENDED_REPLY.encode({
          magic: EXTENDED_REPLY_MAGIC,
          ...{ flags, type, cookie, offset: BigInt(offset), length: BigInt(length) },
        })
      : STRUCTURED_REPLY.encode({ magic: STRUCTURED_REPLY_MAGIC, flags, type, cookie, length });
  return Buffer.concat([header, payload]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
