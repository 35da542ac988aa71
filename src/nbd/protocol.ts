/**
 * The NBD protocol as numbers: magics, options, replies, commands, flags and message layouts.
 *
 * Source: the protocol document of the NBD project, doc/proto.md; section names are in quotes. All integers are big
 * endian ("Conventions"). Layouts serve the handshake, SPEC.md's tables and the tests; the transmission phase reads
 * and writes the same fields at the offsets named here.
 */
import { ascii, bits64be, u16be, u32be, u64be } from '../binary/field-types.ts';
import { type Layout, layout } from '../binary/layout.ts';

/** "Newstyle negotiation": what a server says first. */
export const SERVER_MAGIC = 'NBDMAGIC';
export const OPTION_MAGIC = 'IHAVEOPT';
export const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9;
export const REQUEST_MAGIC = 0x2560_9513;
export const SIMPLE_REPLY_MAGIC = 0x6744_6698;
export const STRUCTURED_REPLY_MAGIC = 0x668e_33ef;
/** The protocol's branch extension-ext-header, "Extended reply chunk message". */
export const EXTENDED_REQUEST_MAGIC = 0x21e4_1c71;
export const EXTENDED_REPLY_MAGIC = 0x6e8a_278c;

/** "Handshake flags" and "Client flags": the same bits mean the same. */
export const FLAG_FIXED_NEWSTYLE: number = 1 << 0;
export const FLAG_NO_ZEROES: number = 1 << 1;
/** Zeroes behind the answer to EXPORT_NAME, unless both sides said NO_ZEROES. */
export const EXPORT_NAME_PADDING = 124;

/** "Option types". */
export const OPT_EXPORT_NAME = 1;
export const OPT_ABORT = 2;
export const OPT_LIST = 3;
export const OPT_STARTTLS = 5;
export const OPT_INFO = 6;
export const OPT_GO = 7;
export const OPT_STRUCTURED_REPLY = 8;
export const OPT_LIST_META_CONTEXT = 9;
export const OPT_SET_META_CONTEXT = 10;
export const OPT_EXTENDED_HEADERS = 11;

/** "Option reply types". */
export const REP_ACK = 1;
export const REP_SERVER = 2;
export const REP_INFO = 3;
export const REP_META_CONTEXT = 4;
export const REP_ERR_UNSUP = 0x8000_0001;
export const REP_ERR_INVALID = 0x8000_0003;
export const REP_ERR_TLS_REQD = 0x8000_0005;
export const REP_ERR_UNKNOWN = 0x8000_0006;
export const REP_ERR_TOO_BIG = 0x8000_0009;
export const REP_ERR_EXT_HEADER_REQD = 0x8000_000a;

/** Information types of INFO and GO. */
export const INFO_EXPORT = 0;
export const INFO_NAME = 1;
export const INFO_DESCRIPTION = 2;
export const INFO_BLOCK_SIZE = 3;

/** "Transmission flags". */
export const SEND_HAS_FLAGS: number = 1 << 0;
export const SEND_READ_ONLY: number = 1 << 1;
export const SEND_FLUSH: number = 1 << 2;
export const SEND_FUA: number = 1 << 3;
export const SEND_TRIM: number = 1 << 5;
export const SEND_WRITE_ZEROES: number = 1 << 6;
export const SEND_DF: number = 1 << 7;
export const SEND_MULTI_CONN: number = 1 << 8;
export const SEND_CACHE: number = 1 << 10;
export const SEND_FAST_ZERO: number = 1 << 11;
export const SEND_BLOCK_STATUS_PAYLOAD: number = 1 << 12;

/** "Request types". */
export const CMD_READ = 0;
export const CMD_WRITE = 1;
export const CMD_DISC = 2;
export const CMD_FLUSH = 3;
export const CMD_TRIM = 4;
export const CMD_CACHE = 5;
export const CMD_WRITE_ZEROES = 6;
export const CMD_BLOCK_STATUS = 7;

/** "Command flags". */
export const CMD_FLAG_FUA: number = 1 << 0;
export const CMD_FLAG_NO_HOLE: number = 1 << 1;
export const CMD_FLAG_DF: number = 1 << 2;
export const CMD_FLAG_REQ_ONE: number = 1 << 3;
export const CMD_FLAG_FAST_ZERO: number = 1 << 4;
/** With extended headers: the length is that of a payload which follows. */
export const CMD_FLAG_PAYLOAD_LEN: number = 1 << 5;

/** "Structured reply flags" and "Structured reply types". */
export const REPLY_FLAG_DONE: number = 1 << 0;
export const REPLY_NONE = 0;
export const REPLY_OFFSET_DATA = 1;
export const REPLY_OFFSET_HOLE = 2;
export const REPLY_BLOCK_STATUS = 5;
export const REPLY_BLOCK_STATUS_EXT = 6;
export const REPLY_ERROR = 0x8001;
export const REPLY_ERROR_OFFSET = 0x8002;

/** "`base:allocation` metadata context". */
export const STATE_HOLE: number = 1 << 0;
export const STATE_ZERO: number = 1 << 1;

/** "Error values", those that the server chooses itself; the rest comes from the table in src/base/errors.ts. */
export const NBD_EPERM = 1;
export const NBD_EINVAL = 22;
export const NBD_ENOSPC = 28;
export const NBD_EOVERFLOW = 75;
export const NBD_ENOTSUP = 95;

/** Bytes of a string: names, descriptions, queries, messages ("Values"). */
export const STRING_MAX = 4096;

export interface ServerGreeting {
  readonly magic: string;
  readonly optionMagic: string;
  readonly flags: number;
}

export const SERVER_GREETING: Layout<ServerGreeting> = layout('server greeting', 18, {
  magic: [0, ascii(8), '`NBDMAGIC`'],
  optionMagic: [8, ascii(8), '`IHAVEOPT`: newstyle'],
  flags: [16, u16be, 'handshake flags'],
});

export interface OptionHeader {
  readonly magic: string;
  readonly option: number;
  readonly length: number;
}

export const OPTION_HEADER: Layout<OptionHeader> = layout('option', 16, {
  magic: [0, ascii(8), '`IHAVEOPT`'],
  option: [8, u32be, 'which option'],
  length: [12, u32be, 'bytes of data that follow'],
});

export interface OptionReply {
  readonly magic: number;
  readonly option: number;
  readonly type: number;
  readonly length: number;
}

export const OPTION_REPLY: Layout<OptionReply> = layout('option reply', 20, {
  magic: [0, u64be, '0x3e889045565a9'],
  option: [8, u32be, 'the option that is answered'],
  type: [12, u32be, 'reply type; bit 31 set: an error'],
  length: [16, u32be, 'bytes of data that follow'],
});

export interface Request {
  readonly magic: number;
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: number;
}

export const REQUEST: Layout<Request> = layout('request', 28, {
  magic: [0, u32be, '0x25609513'],
  flags: [4, u16be, 'command flags'],
  type: [6, u16be, 'command'],
  cookie: [8, bits64be, 'the same in every reply to it'],
  offset: [16, bits64be, 'first byte of the export'],
  length: [24, u32be, 'bytes; a WRITE is followed by as many'],
});

export interface SimpleReply {
  readonly magic: number;
  readonly error: number;
  readonly cookie: bigint;
}

export const SIMPLE_REPLY: Layout<SimpleReply> = layout('simple reply', 16, {
  magic: [0, u32be, '0x67446698'],
  error: [4, u32be, '0, or an error value'],
  cookie: [8, bits64be, 'of the request'],
});

export interface StructuredReply {
  readonly magic: number;
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly length: number;
}

export const STRUCTURED_REPLY: Layout<StructuredReply> = layout('structured reply chunk', 20, {
  magic: [0, u32be, '0x668e33ef'],
  flags: [4, u16be, 'bit 0: the last chunk of this reply'],
  type: [6, u16be, 'chunk type; bit 15 set: an error'],
  cookie: [8, bits64be, 'of the request'],
  length: [16, u32be, 'bytes of payload that follow'],
});

export interface ExtendedRequest {
  readonly magic: number;
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: bigint;
}

export const EXTENDED_REQUEST: Layout<ExtendedRequest> = layout('extended request', 32, {
  magic: [0, u32be, '0x21e41c71'],
  flags: [4, u16be, 'command flags'],
  type: [6, u16be, 'command'],
  cookie: [8, bits64be, 'the same in every reply to it'],
  offset: [16, bits64be, 'first byte of the export'],
  length: [24, bits64be, 'bytes; with PAYLOAD_LEN as many follow'],
});

export interface ExtendedReply {
  readonly magic: number;
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: bigint;
}

export const EXTENDED_REPLY: Layout<ExtendedReply> = layout('extended reply chunk', 32, {
  magic: [0, u32be, '0x6e8a278c'],
  flags: [4, u16be, 'bit 0: the last chunk of this reply'],
  type: [6, u16be, 'chunk type; bit 15 set: an error'],
  cookie: [8, bits64be, 'of the request'],
  offset: [16, bits64be, 'of the request'],
  length: [24, bits64be, 'bytes of payload that follow'],
});
