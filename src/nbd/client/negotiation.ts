/**
 * The client's side of the handshake phase ("Newstyle negotiation"): TLS where it is asked for, then the best replies
 * that the server has, the context `base:allocation`, and the export.
 *
 * What a server says here is bounded (client-limits.ts) and verified; it is never trusted to stop.
 */
import { connect as connectSocket, type Socket } from 'node:net';
import { VimgError } from '../../base/errors.ts';
import {
  EXPORT_NAME_PADDING,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  INFO_BLOCK_SIZE,
  INFO_EXPORT,
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_SET_META_CONTEXT,
  OPT_STARTTLS,
  OPT_STRUCTURED_REPLY,
  OPTION_HEADER,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  REP_ACK,
  REP_ERR_TLS_REQD,
  REP_ERR_UNKNOWN,
  REP_ERR_UNSUP,
  REP_INFO,
  REP_META_CONTEXT,
  SEND_HAS_FLAGS,
  SERVER_GREETING,
  SERVER_MAGIC,
} from '../protocol.ts';
import type { SocketInput } from '../socket-input.ts';
import { printableMessage, violation } from './client-error.ts';
import { type ClientLimits, OPTION_REPLIES_MAX, OPTION_REPLY_MAX, PAYLOAD_MAX } from './client-limits.ts';
import { NegotiationStream } from './negotiation-stream.ts';
import { startTls } from './tls-client.ts';
import { canonicalUri, type NbdUri } from './uri.ts';

/** What server and client agreed on. */
export interface Agreement {
  /** Bytes. */
  readonly size: number;
  /** Transmission flags. */
  readonly flags: number;
  readonly replies: 'simple' | 'structured' | 'extended';
  /** The number of `base:allocation`, where the server has it. */
  readonly allocationContext: number | undefined;
  /** "Block size constraints": offsets and lengths are multiples of the first; transfers no longer than the second. */
  readonly blockSize: number;
  readonly payloadMax: number;
}

export interface Negotiated {
  readonly socket: Socket;
  /** What came behind the handshake. */
  readonly input: SocketInput;
  readonly agreement: Agreement;
}

interface OptionAnswer {
  readonly type: number;
  readonly data: Buffer;
}

const IS_ERROR = 0x8000_0000;
const BLOCK_SIZE_MAX = 65_536;
const ALLOCATION = 'base:allocation';
const SAFE_SIZE_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * Connects and negotiates.
 *
 * @param signal ends it
 * @throws VimgError `NOT_FOUND` without such an export, `UNSUPPORTED` when one side has TLS and the other not, `IO`
 */
export async function negotiate(
  uri: NbdUri,
  limits: ClientLimits,
  signal?: AbortSignal,
): Promise<Negotiated> {
  const path = canonicalUri(uri);
  const { address } = uri;
  const socket = connectSocket('socketPath' in address ? { path: address.socketPath } : { ...address });
  const stream = new NegotiationStream(socket, path);
  const timer = setTimeout(() => {
    stream.fail(new VimgError('IO', 'The server did not answer in time', { op: 'connect', path }));
  }, limits.handshakeMs);
  const giveUp = (): void => stream.fail(new VimgError('IO', 'It was given up', { op: 'connect', path }));
  signal?.addEventListener('abort', giveUp, { once: true });
  try {
    await stream.connected('connect');
    const agreement = await new Negotiation(stream, uri, path).run();
    stream.socket.setNoDelay(true);
    stream.socket.setKeepAlive(true);
    return { ...stream.release(), agreement };
  } catch (error) {
    stream.socket.destroy();
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', giveUp);
  }
}

class Negotiation {
  readonly #stream: NegotiationStream;
  readonly #uri: NbdUri;
  readonly #path: string;

  constructor(stream: NegotiationStream, uri: NbdUri, path: string) {
    this.#stream = stream;
    this.#uri = uri;
    this.#path = path;
  }

  async run(): Promise<Agreement> {
    const noZeroes = await this.#greet();
    if (this.#uri.tls) await this.#secure();
    const replies = await this.#chooseReplies();
    const allocationContext = replies === 'simple' ? undefined : await this.#chooseContext();
    const entered = (await this.#go()) ?? (await this.#enterByName(noZeroes));
    return { ...entered, replies, allocationContext };
  }

  /** @returns whether zeroes behind the answer to EXPORT_NAME are left out */
  async #greet(): Promise<boolean> {
    const greeting = SERVER_GREETING.decode(await this.#stream.read(SERVER_GREETING.size));
    if (greeting.magic !== SERVER_MAGIC || greeting.optionMagic !== OPTION_MAGIC) {
      throw violation(this.#path, 'it is none, or speaks an old dialect');
    }
    if ((greeting.flags & FLAG_FIXED_NEWSTYLE) === 0) {
      throw new VimgError('UNSUPPORTED', 'The server speaks an old dialect of NBD', { path: this.#path });
    }
    const flags = Buffer.alloc(4);
    flags.writeUInt32BE(greeting.flags & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES));
    this.#stream.write(flags);
    return (greeting.flags & FLAG_NO_ZEROES) !== 0;
  }

  /** Nothing that came before the protection, and was not asked for, is ever read ("STARTTLS"). */
  async #secure(): Promise<void> {
    const [answer] = await this.#ask(OPT_STARTTLS);
    if (answer?.type !== REP_ACK) {
      throw new VimgError('UNSUPPORTED', 'The server does not offer TLS', {
        path: this.#path,
        hint: 'without protection: nbd: instead of nbds:',
      });
    }
    if (this.#stream.buffered > 0)
      throw violation(this.#path, 'it goes on in the clear after it agreed on TLS');
    const { address, tls = {} } = this.#uri;
    const plain = this.#stream.socket;
    const secured = await startTls(plain, tls ?? {}, 'host' in address ? address.host : 'localhost');
    plain.on('error', () => undefined); // told by the protected socket
    this.#stream.replace(secured);
    await this.#stream.connected('secureConnect');
  }

  async #chooseReplies(): Promise<Agreement['replies']> {
    if ((await this.#ask(OPT_EXTENDED_HEADERS))[0]?.type === REP_ACK) return 'extended';
    return (await this.#ask(OPT_STRUCTURED_REPLY))[0]?.type === REP_ACK ? 'structured' : 'simple';
  }

  async #chooseContext(): Promise<number | undefined> {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(1);
    const data = Buffer.concat([lengthAnd(this.#uri.exportName), count, lengthAnd(ALLOCATION)]);
    for (const { type, data: found } of await this.#ask(OPT_SET_META_CONTEXT, data)) {
      if (type === REP_META_CONTEXT && found.length > 4 && found.toString('utf8', 4) === ALLOCATION) {
        return found.readUInt32BE(0);
      }
    }
    return undefined;
  }

  /** Nothing when the server does not know GO. */
  async #go(): Promise<Omit<Agreement, 'replies' | 'allocationContext'> | undefined> {
    const wanted = Buffer.alloc(4);
    wanted.writeUInt16BE(1);
    wanted.writeUInt16BE(INFO_BLOCK_SIZE, 2);
    const answers = await this.#ask(OPT_GO, Buffer.concat([lengthAnd(this.#uri.exportName), wanted]));
    const last = answers.at(-1);
    if (last?.type === REP_ERR_UNSUP) return undefined;
    if (last?.type !== REP_ACK) throw this.#refusal(last);
    let size: number | undefined;
    let flags = 0;
    let blockSize = 1;
    let payloadMax = PAYLOAD_MAX;
    for (const { type, data } of answers) {
      if (type !== REP_INFO || data.length < 2) continue;
      const info = data.readUInt16BE(0);
      if (info === INFO_EXPORT && data.length >= 12) {
        size = this.#checkedSize(data.readBigUInt64BE(2));
        flags = data.readUInt16BE(10);
      } else if (info === INFO_BLOCK_SIZE && data.length >= 14) {
        blockSize = data.readUInt32BE(2);
        payloadMax = Math.min(PAYLOAD_MAX, data.readUInt32BE(10));
      }
    }
    if (size === undefined) throw violation(this.#path, 'it does not tell the size of the export');
    return this.#checked({ size, flags, blockSize, payloadMax });
  }

  async #enterByName(noZeroes: boolean): Promise<Omit<Agreement, 'replies' | 'allocationContext'>> {
    this.#send(OPT_EXPORT_NAME, Buffer.from(this.#uri.exportName));
    const reply = await this.#stream.read(10 + (noZeroes ? 0 : EXPORT_NAME_PADDING));
    const size = this.#checkedSize(reply.readBigUInt64BE(0));
    return this.#checked({ size, flags: reply.readUInt16BE(8), blockSize: 1, payloadMax: PAYLOAD_MAX });
  }

  #checkedSize(size: bigint): number {
    if (size <= SAFE_SIZE_MAX) return Number(size);
    throw new VimgError('LIMIT', `The export has ${size} bytes`, { path: this.#path });
  }

  #checked<T extends { flags: number; blockSize: number; payloadMax: number }>(export_: T): T {
    const { flags, blockSize, payloadMax } = export_;
    if ((flags & SEND_HAS_FLAGS) === 0)
      throw violation(this.#path, 'the transmission flags have no HAS_FLAGS');
    const isPower = blockSize > 0 && (blockSize & (blockSize - 1)) === 0;
    if (!isPower || blockSize > BLOCK_SIZE_MAX || payloadMax < blockSize) {
      throw violation(this.#path, `block sizes ${blockSize} to ${payloadMax}`);
    }
    return export_;
  }

  #refusal(answer: OptionAnswer | undefined): VimgError {
    const path = this.#path;
    if (answer?.type === REP_ERR_UNKNOWN) {
      const name = printableMessage(this.#uri.exportName);
      return new VimgError('NOT_FOUND', `The server has no export '${name}'`, { op: 'open', path });
    }
    if (answer?.type === REP_ERR_TLS_REQD) {
      const hint = 'use nbds: with ?tls-certificates=FOLDER or ?tls-psk-file=FILE';
      return new VimgError('UNSUPPORTED', 'The server requires TLS', { op: 'open', path, hint });
    }
    const said = printableMessage(answer?.data.toString('utf8') ?? '');
    return new VimgError('IO', `The server refuses the export${said === '' ? '' : `: ${said}`}`, {
      op: 'open',
      path,
    });
  }

  #send(option: number, data: Uint8Array): void {
    const header = OPTION_HEADER.encode({ magic: OPTION_MAGIC, option, length: data.length });
    this.#stream.write(Buffer.concat([header, data]));
  }

  /** All answers to an option; the last is ACK or an error. */
  async #ask(option: number, data: Uint8Array = Buffer.alloc(0)): Promise<OptionAnswer[]> {
    this.#send(option, data);
    const answers: OptionAnswer[] = [];
    while (answers.length < OPTION_REPLIES_MAX) {
      const reply = OPTION_REPLY.decode(await this.#stream.read(OPTION_REPLY.size));
      if (reply.magic !== OPTION_REPLY_MAGIC || reply.option !== option) {
        throw violation(this.#path, `what answers option ${option} is no answer to it`);
      }
      if (reply.length > OPTION_REPLY_MAX) throw violation(this.#path, `an answer of ${reply.length} bytes`);
      answers.push({ type: reply.type, data: await this.#stream.read(reply.length) });
      if (reply.type === REP_ACK || reply.type >= IS_ERROR) return answers;
    }
    this.#send(OPT_ABORT, Buffer.alloc(0));
    throw violation(this.#path, `more than ${OPTION_REPLIES_MAX} answers to option ${option}`);
  }
}

function lengthAnd(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
