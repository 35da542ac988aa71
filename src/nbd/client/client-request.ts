/** One request of the client, from its making to its answer; it can be sent again over another connection. */
import {
  CMD_BLOCK_STATUS,
  CMD_FLAG_PAYLOAD_LEN,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  EXTENDED_REQUEST,
  EXTENDED_REQUEST_MAGIC,
  REQUEST,
  REQUEST_MAGIC,
} from '../protocol.ts';

/** The first extent of a range, as `base:allocation` tells it. */
export interface StatusAnswer {
  readonly length: number;
  readonly flags: number;
}

const NAMES: ReadonlyMap<number, string> = new Map([
  [CMD_READ, 'read'],
  [CMD_WRITE, 'write'],
  [CMD_FLUSH, 'flush'],
  [CMD_TRIM, 'discard'],
  [CMD_WRITE_ZEROES, 'write zeroes'],
  [CMD_BLOCK_STATUS, 'status'],
]);

export class ClientRequest {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** READ: filled. WRITE: sent. */
  readonly buffer: Uint8Array | undefined;
  /** Resolves with the answer; the connection, or who gives it up, settles it. */
  readonly done: Promise<StatusAnswer | undefined>;
  resolve!: (answer?: StatusAnswer) => void;
  reject!: (error: Error) => void;
  status: StatusAnswer | undefined;
  error: { readonly value: number; readonly message: string } | undefined;
  /** READ: parts of the buffer that were filled, in order and merged: start, end, start, end… */
  readonly #filled: number[] = [];
  chunks = 0;
  /** When it was sent last, on the clock of `performance.now()`. */
  sentMs = 0;
  /** How often it was sent; over connections of one time, which may all have been lost by then, counts once. */
  sendings = 0;
  /** The newest connection when that was counted last. */
  countedAt = 0;
  /** FLUSH: how many changes had been answered when it was asked for. */
  covers = 0;

  constructor(type: number, flags: number, offset: number, length: number, buffer?: Uint8Array) {
    this.type = type;
    this.flags = flags;
    this.offset = offset;
    this.length = length;
    this.buffer = buffer;
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  get name(): string {
    return NAMES.get(this.type) ?? `command ${this.type}`;
  }

  /** Bytes that it moves. */
  get payload(): number {
    return this.buffer?.length ?? 0;
  }

  /** What is sent, without the data of a WRITE. */
  header(cookie: number, isExtended: boolean): Buffer {
    const header = Buffer.allocUnsafe(isExtended ? EXTENDED_REQUEST.size : REQUEST.size);
    const payload = isExtended && this.type === CMD_WRITE ? CMD_FLAG_PAYLOAD_LEN : 0;
    header.writeUInt32BE(isExtended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC, 0);
    header.writeUInt16BE(this.flags | payload, 4);
    header.writeUInt16BE(this.type, 6);
    writeU64(header, 8, cookie);
    writeU64(header, 16, this.offset);
    if (isExtended) writeU64(header, 24, this.length);
    else header.writeUInt32BE(this.length, 24);
    return header;
  }

  /** Forgets what a lost connection answered. */
  restart(): void {
    this.#filled.length = 0;
    this.chunks = 0;
    this.status = undefined;
    this.error = undefined;
  }

  /** Notes that a part of the buffer is filled. False: it is not inside, or was filled before. */
  fill(start: number, length: number): boolean {
    const end = start + length;
    const filled = this.#filled;
    if (start < 0 || length <= 0 || end > this.length) return false;
    let at = filled.length;
    while (at > 0 && (filled[at - 2] as number) >= end) at -= 2;
    if (at > 0 && (filled[at - 1] as number) > start) return false;
    const joinsBefore = at > 0 && filled[at - 1] === start;
    const joinsAfter = at < filled.length && filled[at] === end;
    if (joinsBefore && joinsAfter) filled.splice(at - 1, 2);
    else if (joinsBefore) filled[at - 1] = end;
    else if (joinsAfter) filled[at] = start;
    else filled.splice(at, 0, start, end);
    return true;
  }

  get isFilled(): boolean {
    return this.#filled.length === 2 && this.#filled[0] === 0 && this.#filled[1] === this.length;
  }
}

function writeU64(buffer: Buffer, at: number, value: number): void {
  buffer.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  buffer.writeUInt32BE(value % 2 ** 32, at + 4);
}
