/**
 * Answers of an NBD server, and lies about them, from a seed: bits that are flipped, lengths and cookies that are others,
 * what is said twice, in another order, in part, without end, or not at all.
 */
import type { SeededRandom } from '../../src/base/random.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_READ,
  NBD_EINVAL,
  REPLY_BLOCK_STATUS,
  REPLY_BLOCK_STATUS_EXT,
  REPLY_ERROR,
  REPLY_NONE,
  REPLY_OFFSET_DATA,
  REPLY_OFFSET_HOLE,
  STATE_HOLE,
  STATE_ZERO,
} from '../../src/nbd/protocol.ts';
import {
  ALLOCATION_ID,
  type Asked,
  chunkReply,
  type Replies,
  type ReplyChunk,
  simpleReply,
  u32,
  u64,
} from '../nbd/client/small-server.ts';

const PAGE = 4096;

/** The right answer: chunks that can be sent one by one. */
export function rightAnswer(replies: Replies, asked: Asked, content: Buffer, random: SeededRandom): Buffer[] {
  const { type, cookie, offset, length } = asked;
  if (replies === 'simple') {
    const data = type === CMD_READ ? content.subarray(offset, offset + length) : Buffer.alloc(0);
    return [simpleReply(cookie, 0, Buffer.from(data))];
  }
  const chunks = chunksOf(replies, asked, content, random);
  return chunks.map((chunk, index) =>
    chunkReply(replies, asked, { ...chunk, done: index === chunks.length - 1 }),
  );
}

type OpenChunk = Omit<ReplyChunk, 'done'>;

function chunksOf(replies: Replies, asked: Asked, content: Buffer, random: SeededRandom): OpenChunk[] {
  switch (asked.type) {
    case CMD_READ:
      return readChunks(asked, content, random);
    case CMD_BLOCK_STATUS:
      return [statusChunk(replies, [extentAt(content, asked.offset, asked.length)])];
    default:
      return [{ type: REPLY_NONE, payload: Buffer.alloc(0) }];
  }
}

/** In pieces, in any order; pages of zeroes as holes. */
function readChunks({ offset, length }: Asked, content: Buffer, random: SeededRandom): OpenChunk[] {
  const chunks: OpenChunk[] = [];
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const size = Math.min(end - at, random.oneIn(2) ? length : 1 + random.below(2 * PAGE));
    const data = content.subarray(at, at + size);
    const isHole = data.every((byte) => byte === 0);
    const payload = isHole ? [u64(at), u32(size)] : [u64(at), data];
    chunks.splice(random.below(chunks.length + 1), 0, {
      type: isHole ? REPLY_OFFSET_HOLE : REPLY_OFFSET_DATA,
      payload: Buffer.concat(payload),
    });
    at += size;
  }
  return chunks;
}

interface StatusExtent {
  readonly length: number;
  readonly flags: number;
}

function extentAt(content: Buffer, offset: number, length: number): StatusExtent {
  const isZero = content[offset] === 0;
  let end = offset;
  while (end < offset + length && (content[end] === 0) === isZero) end++;
  return { length: end - offset, flags: isZero ? STATE_HOLE | STATE_ZERO : 0 };
}

function statusChunk(replies: Replies, extents: readonly StatusExtent[]): OpenChunk {
  const isExtended = replies === 'extended';
  const parts = extents.map(({ length, flags }) =>
    isExtended ? Buffer.concat([u64(length), u64(flags)]) : Buffer.concat([u32(length), u32(flags)]),
  );
  const head = isExtended ? [u32(ALLOCATION_ID), u32(extents.length)] : [u32(ALLOCATION_ID)];
  return {
    type: isExtended ? REPLY_BLOCK_STATUS_EXT : REPLY_BLOCK_STATUS,
    payload: Buffer.concat([...head, ...parts]),
  };
}

/** What is sent instead of an answer. */
export interface Lie {
  readonly name: string;
  readonly bytes: Buffer;
  /** Nobody could tell: what is read may be wrong now. */
  readonly deceives: boolean;
  /** The connection ends behind it. */
  readonly ends?: boolean;
}

export interface LieContext {
  readonly replies: Replies;
  readonly asked: Asked;
  readonly chunks: readonly Buffer[];
  readonly random: SeededRandom;
  /** Of requests that were not answered yet, and of some that were. */
  readonly cookies: readonly bigint[];
}

type Liar = (context: LieContext) => Omit<Lie, 'name'>;

const LIARS: Readonly<Record<string, Liar>> = {
  bits: ({ chunks, random }) => {
    const bytes = Buffer.concat(chunks);
    for (let flips = 1 + random.below(4); flips > 0; flips--) {
      // near the beginning, where the headers are, more often than chance would
      const at = random.below(random.oneIn(3) ? bytes.length : Math.min(64, bytes.length));
      bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    }
    return { bytes, deceives: true };
  },
  length: ({ chunks, replies, random }) => {
    const bytes = Buffer.concat(chunks);
    const value = random.pick([0, 1, 7, 8, 12, 20, 32, 0xffff, 0x10_0000, 0x7fff_ffff, 0xffff_ffff]);
    if (replies === 'extended') {
      bytes.writeUInt32BE(random.oneIn(2) ? 0 : random.pick([1, 0x20_0000, 0xffff_ffff]), 24);
      bytes.writeUInt32BE(value, 28);
    } else if (replies === 'structured') bytes.writeUInt32BE(value, 16);
    else return { bytes: bytes.subarray(0, random.below(bytes.length)), deceives: true };
    return { bytes, deceives: true };
  },
  twice: ({ chunks, random }) => {
    const chunk = random.pick(chunks);
    return {
      bytes: Buffer.concat(random.oneIn(2) ? [chunk, ...chunks] : [...chunks, chunk]),
      deceives: false,
    };
  },
  order: ({ chunks }) => ({ bytes: Buffer.concat([...chunks].reverse()), deceives: false }),
  missing: ({ chunks, random }) => {
    const out = random.below(chunks.length);
    return { bytes: Buffer.concat(chunks.filter((_, index) => index !== out)), deceives: false };
  },
  cut: ({ chunks, random }) => {
    const bytes = Buffer.concat(chunks);
    return { bytes: bytes.subarray(0, random.below(bytes.length)), deceives: false, ends: true };
  },
  cookie: ({ chunks, replies, cookies, random }) => {
    const bytes = Buffer.concat(chunks);
    const other = random.oneIn(2) ? random.pick(cookies) : (BigInt(random.nextU32()) << 32n) | 5n;
    bytes.writeBigUInt64BE(other, 8);
    return { bytes, deceives: replies === 'simple' };
  },
  error: ({ chunks, replies, asked, random }) => {
    const value = random.pick([0, 1, 5, 12, NBD_EINVAL, 28, 75, 95, 108, 4_000_000_000]);
    if (replies === 'simple') return { bytes: simpleReply(asked.cookie, value), deceives: value === 0 };
    const said = Buffer.from(random.pick(['', 'no', '\u001b[2J\u0000', 'x'.repeat(5000)]));
    const length = Buffer.alloc(2);
    length.writeUInt16BE(random.oneIn(4) ? random.below(65_536) : said.length);
    const payload = Buffer.concat([u32(value), length, said]);
    const type = random.pick([REPLY_ERROR, REPLY_ERROR + 1, 0x8fff, 0xffff]);
    const chunk = chunkReply(replies, asked, { type, payload, done: random.oneIn(2) });
    return { bytes: Buffer.concat(random.oneIn(2) ? [chunk, ...chunks] : [chunk]), deceives: false };
  },
  endless: ({ replies, asked, random }) => {
    if (replies === 'simple') return { bytes: Buffer.alloc(0), deceives: false };
    const empty = chunkReply(replies, asked, { type: REPLY_NONE, payload: Buffer.alloc(0), done: false });
    const times = random.pick([100, 8191, 8192, 20_000]);
    return { bytes: Buffer.concat(Array.from({ length: times }, () => empty)), deceives: false };
  },
  status: ({ replies, asked, random }) => {
    if (replies === 'simple') return { bytes: Buffer.from('status'), deceives: false };
    const extents = Array.from({ length: random.pick([0, 1, 3, 5000]) }, () => ({
      length: random.oneIn(2) ? random.below(10 * asked.length + 2) : random.nextU32(),
      flags: random.below(4),
    }));
    const chunk = { ...statusChunk(replies, extents), done: random.oneIn(2) };
    return { bytes: chunkReply(replies, asked, chunk), deceives: true };
  },
  elsewhere: ({ replies, asked, random }) => {
    const at = asked.offset + random.pick([-1, 1, -PAGE, asked.length, asked.length - 1, 2 ** 40]);
    const data = random.bytes(random.below(2 * PAGE));
    const isHole = random.oneIn(2);
    const payload = Buffer.concat([u64(Math.max(0, at)), isHole ? u32(random.nextU32()) : data]);
    const type = isHole ? REPLY_OFFSET_HOLE : REPLY_OFFSET_DATA;
    const bytes =
      replies === 'simple' ? Buffer.from(data) : chunkReply(replies, asked, { type, payload, done: true });
    return { bytes, deceives: true };
  },
  noise: ({ random }) => ({ bytes: Buffer.from(random.bytes(random.below(5000))), deceives: false }),
  silence: () => ({ bytes: Buffer.alloc(0), deceives: false }),
  farewell: () => ({ bytes: Buffer.alloc(0), deceives: false, ends: true }),
};

const NAMES: readonly string[] = Object.keys(LIARS);
/** The client waits for what does not come. */
const SLOW: readonly string[] = ['silence', 'endless'];
/** Those by which a client that keeps to the rules is never deceived: what it reads can be judged. */
const TRANSPARENT: readonly string[] = [
  'twice',
  'order',
  'missing',
  'cut',
  'cookie',
  'endless',
  'noise',
  'farewell',
];

/** @param isTransparent only lies that a client can tell */
export function randomLie(context: LieContext, isTransparent: boolean): Lie {
  const names = isTransparent ? TRANSPARENT : NAMES;
  let name = context.random.pick(names);
  if (SLOW.includes(name)) name = context.random.pick(names); // seldom
  return { name, ...(LIARS[name] as Liar)(context) };
}
