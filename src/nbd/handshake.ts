/**
 * The server's side of the handshake phase: fixed newstyle negotiation, option after option, until the client has
 * chosen an export or leaves ("Newstyle negotiation", "Option types").
 *
 * Nothing that a client sends here takes memory beyond one option's data of 64 KiB; more is dropped as it arrives.
 */
import { type BlockSizes, blockSizes, type Export, transmissionFlags } from './export.ts';
import { listed, type MetadataContext, selected } from './metadata-context.ts';
import { parseInfoRequest, parseMetaContextRequest } from './option-data.ts';
import {
  EXPORT_NAME_PADDING,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  INFO_BLOCK_SIZE,
  INFO_DESCRIPTION,
  INFO_EXPORT,
  INFO_NAME,
  OPT_ABORT,
  OPT_EXPORT_NAME,
  OPT_EXTENDED_HEADERS,
  OPT_GO,
  OPT_INFO,
  OPT_LIST,
  OPT_LIST_META_CONTEXT,
  OPT_SET_META_CONTEXT,
  OPT_STARTTLS,
  OPT_STRUCTURED_REPLY,
  OPTION_HEADER,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  REP_ACK,
  REP_ERR_EXT_HEADER_REQD,
  REP_ERR_INVALID,
  REP_ERR_TLS_REQD,
  REP_ERR_TOO_BIG,
  REP_ERR_UNKNOWN,
  REP_ERR_UNSUP,
  REP_INFO,
  REP_META_CONTEXT,
  REP_SERVER,
  SERVER_GREETING,
  SERVER_MAGIC,
} from './protocol.ts';
import type { ReplyFormat } from './reply-writer.ts';
import { OPTION_DATA_MAX } from './server-limits.ts';
import type { SocketInput } from './socket-input.ts';

/** What was agreed on. */
export interface Session {
  readonly served: Export;
  /** How replies look; `extended` also says that requests have the extended header. */
  readonly replies: ReplyFormat;
  readonly contexts: readonly MetadataContext[];
}

/**
 * `more`: the client's turn. `end`: send what was written, then close. `violation`: close at once. `secure`: go on under
 * TLS; whatever came in the clear behind the option must not be read.
 */
export type HandshakeStep = 'more' | 'end' | 'violation' | 'secure' | Session;

const CLIENT_FLAGS_BYTES = 4;
const OWN_FLAGS = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
const NO_DATA: Buffer = Buffer.alloc(0);

export class Handshake {
  readonly #exports: ReadonlyMap<string, Export>;
  readonly #input: SocketInput;
  readonly #write: (bytes: Uint8Array) => void;
  #clientFlags: number | undefined;
  #option = 0;
  /** Bytes of data of the present option that are still to come; undefined between options. */
  #awaited: number | undefined;
  #dropLeft = 0;
  #replies: ReplyFormat = 'simple';
  #contexts: readonly MetadataContext[] = [];
  #contextsOf: Export | undefined;
  /** `required`: nothing but STARTTLS is answered before ("FORCEDTLS" mode). */
  #tls: 'none' | 'required' | 'active';

  /** Greets the client. */
  constructor(
    exports: ReadonlyMap<string, Export>,
    input: SocketInput,
    write: (bytes: Uint8Array) => void,
    tls: 'none' | 'required' = 'none',
  ) {
    this.#tls = tls;
    this.#exports = exports;
    this.#input = input;
    this.#write = write;
    write(SERVER_GREETING.encode({ magic: SERVER_MAGIC, optionMagic: OPTION_MAGIC, flags: OWN_FLAGS }));
  }

  /** Does one step with what has arrived. `undefined`: a step was made, there may be another. */
  step(): HandshakeStep | undefined {
    const input = this.#input;
    if (this.#dropLeft > 0) {
      this.#dropLeft -= input.skip(this.#dropLeft);
      return this.#dropLeft > 0 ? 'more' : undefined;
    }
    if (this.#clientFlags === undefined) return this.#readClientFlags();
    if (this.#awaited === undefined) return this.#readOptionHeader();
    if (input.length < this.#awaited) return 'more';
    const data = Buffer.allocUnsafe(this.#awaited);
    input.copyTo(data, 0, data.length);
    this.#awaited = undefined;
    return this.#answer(data);
  }

  #readClientFlags(): HandshakeStep | undefined {
    if (this.#input.length < CLIENT_FLAGS_BYTES) return 'more';
    const buffer = this.#input.peek(CLIENT_FLAGS_BYTES);
    const flags = buffer.readUInt32BE(this.#input.offsetIn(buffer));
    this.#input.skip(CLIENT_FLAGS_BYTES);
    this.#clientFlags = flags;
    return (flags & ~OWN_FLAGS) === 0 ? undefined : 'violation';
  }

  #readOptionHeader(): HandshakeStep | undefined {
    if (this.#input.length < OPTION_HEADER.size) return 'more';
    const buffer = this.#input.peek(OPTION_HEADER.size);
    const { magic, option, length } = OPTION_HEADER.decode(buffer, this.#input.offsetIn(buffer));
    this.#input.skip(OPTION_HEADER.size);
    if (magic !== OPTION_MAGIC) return 'violation';
    if (option !== OPT_EXPORT_NAME && !this.#hasFlag(FLAG_FIXED_NEWSTYLE)) return 'violation';
    this.#option = option;
    if (length <= OPTION_DATA_MAX) {
      this.#awaited = length;
      return undefined;
    }
    if (option === OPT_EXPORT_NAME) return 'violation';
    if (option === OPT_SET_META_CONTEXT) this.#chooseContexts(undefined, []);
    this.#reply(REP_ERR_TOO_BIG);
    this.#dropLeft = length;
    return undefined;
  }

  #answer(data: Buffer): HandshakeStep | undefined {
    if (this.#tls === 'required' && this.#option !== OPT_STARTTLS && this.#option !== OPT_ABORT) {
      if (this.#option === OPT_EXPORT_NAME) return 'violation'; // it cannot be answered with an error
      this.#reply(REP_ERR_TLS_REQD);
      return undefined;
    }
    switch (this.#option) {
      case OPT_EXPORT_NAME:
        return this.#enterByName(data.toString('utf8'));
      case OPT_ABORT:
        this.#reply(REP_ACK);
        return 'end';
      case OPT_LIST:
        if (data.length > 0) this.#reply(REP_ERR_INVALID);
        else this.#listExports();
        return undefined;
      case OPT_STRUCTURED_REPLY:
      case OPT_EXTENDED_HEADERS:
        this.#reply(this.#chooseReplies(data));
        return undefined;
      case OPT_INFO:
      case OPT_GO:
        return this.#inform(data);
      case OPT_LIST_META_CONTEXT:
      case OPT_SET_META_CONTEXT:
        this.#answerContexts(data);
        return undefined;
      case OPT_STARTTLS:
        return this.#startTls(data);
      default:
        this.#reply(REP_ERR_UNSUP);
        return undefined;
    }
  }

  /** Nothing was agreed on before that could count under TLS: all of it was refused. */
  #startTls(data: Buffer): HandshakeStep | undefined {
    if (data.length > 0 || this.#tls === 'active') this.#reply(REP_ERR_INVALID);
    else if (this.#tls === 'none') this.#reply(REP_ERR_UNSUP);
    else {
      this.#reply(REP_ACK);
      this.#tls = 'active';
      return 'secure';
    }
    return undefined;
  }

  /** Extended headers, once chosen, take precedence over structured replies. Returns the type of the answer. */
  #chooseReplies(data: Buffer): number {
    if (data.length > 0) return REP_ERR_INVALID;
    if (this.#option === OPT_EXTENDED_HEADERS) this.#replies = 'extended';
    else if (this.#replies === 'extended') return REP_ERR_EXT_HEADER_REQD;
    else this.#replies = 'structured';
    return REP_ACK;
  }

  /** EXPORT_NAME cannot be refused but by closing; it must not be used once extended headers are chosen. */
  #enterByName(name: string): HandshakeStep {
    const served = this.#exports.get(name);
    if (!served || this.#replies === 'extended') return 'violation';
    const padding = this.#hasFlag(FLAG_NO_ZEROES) ? 0 : EXPORT_NAME_PADDING;
    const reply = Buffer.alloc(10 + padding);
    reply.writeBigUInt64BE(BigInt(served.device.size), 0);
    reply.writeUInt16BE(this.#flagsOf(served), 8);
    this.#write(reply);
    return this.#session(served);
  }

  #listExports(): void {
    for (const { name, description = '' } of this.#exports.values()) {
      const text = Buffer.from(name);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(text.length);
      this.#reply(REP_SERVER, Buffer.concat([length, text, Buffer.from(description)]));
    }
    this.#reply(REP_ACK);
  }

  #inform(data: Buffer): HandshakeStep | undefined {
    const request = parseInfoRequest(data);
    const served = request && this.#exports.get(request.name);
    if (!request || !served) {
      this.#reply(request ? REP_ERR_UNKNOWN : REP_ERR_INVALID);
      return undefined;
    }
    this.#reply(REP_INFO, exportInfo(served, this.#flagsOf(served)));
    for (const type of new Set(request.wanted)) {
      if (type === INFO_NAME) this.#reply(REP_INFO, textInfo(type, served.name));
      if (type === INFO_BLOCK_SIZE) this.#reply(REP_INFO, blockSizeInfo(blockSizes(served)));
      if (type === INFO_DESCRIPTION && served.description !== undefined) {
        this.#reply(REP_INFO, textInfo(type, served.description));
      }
    }
    this.#reply(REP_ACK);
    return this.#option === OPT_GO ? this.#session(served) : undefined;
  }

  #answerContexts(data: Buffer): void {
    const choosing = this.#option === OPT_SET_META_CONTEXT;
    if (choosing) this.#chooseContexts(undefined, []);
    const request = parseMetaContextRequest(data);
    if (!request || (choosing && this.#replies === 'simple')) {
      this.#reply(REP_ERR_INVALID);
      return;
    }
    const served = this.#exports.get(request.name);
    if (!served) {
      this.#reply(REP_ERR_UNKNOWN);
      return;
    }
    const found = choosing ? selected(served, request.queries) : listed(served, request.queries);
    for (const { name, id } of found) {
      const number = Buffer.alloc(4);
      number.writeUInt32BE(choosing ? id : 0);
      this.#reply(REP_META_CONTEXT, Buffer.concat([number, Buffer.from(name)]));
    }
    if (choosing) this.#chooseContexts(served, found);
    this.#reply(REP_ACK);
  }

  #chooseContexts(served: Export | undefined, contexts: readonly MetadataContext[]): void {
    this.#contextsOf = served;
    this.#contexts = contexts;
  }

  #session(served: Export): Session {
    return { served, replies: this.#replies, contexts: this.#contextsFor(served) };
  }

  /** The contexts chosen, where they were chosen for this export. */
  #contextsFor(served: Export): readonly MetadataContext[] {
    return this.#contextsOf === served ? this.#contexts : [];
  }

  #flagsOf(served: Export): number {
    return transmissionFlags(served, this.#replies, this.#contextsFor(served).length > 0);
  }

  #hasFlag(flag: number): boolean {
    return ((this.#clientFlags ?? 0) & flag) !== 0;
  }

  #reply(type: number, data: Uint8Array = NO_DATA): void {
    const magic = OPTION_REPLY_MAGIC;
    const header = OPTION_REPLY.encode({ magic, option: this.#option, type, length: data.length });
    this.#write(Buffer.concat([header, data]));
  }
}

function exportInfo(served: Export, flags: number): Buffer {
  const info = Buffer.alloc(12);
  info.writeUInt16BE(INFO_EXPORT, 0);
  info.writeBigUInt64BE(BigInt(served.device.size), 2);
  info.writeUInt16BE(flags, 10);
  return info;
}

function textInfo(type: number, text: string): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type);
  return Buffer.concat([head, Buffer.from(text)]);
}

function blockSizeInfo({ minimum, preferred, maximum }: BlockSizes): Buffer {
  const info = Buffer.alloc(14);
  info.writeUInt16BE(INFO_BLOCK_SIZE, 0);
  info.writeUInt32BE(minimum, 2);
  info.writeUInt32BE(preferred, 6);
  info.writeUInt32BE(maximum, 10);
  return info;
}
