/**
 * An export of an NBD server as a device.
 *
 * Any offset and length will do: transfers are cut into pieces that the server takes, which are under way together, and
 * what does not fill the server's blocks is read, changed and written, while no other change is under way. Its size is
 * fixed. There are no locks over NBD: nobody is kept from using the export at the same time.
 */
import { VimgError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/maybe-promise.ts';
import { roundDown, roundUp } from '../../base/size.ts';
import type { DeviceLimits, Extent, WriteZeroesOptions } from '../../device/block-device.ts';
import type { DiskFile } from '../../device/file-system.ts';
import { FlushQueue } from '../../device/flush-queue.ts';
import { PendingWork } from '../../device/pending-work.ts';
import { checkDiscard, checkInside, checkResize, checkWritable } from '../../device/range-check.ts';
import {
  CMD_BLOCK_STATUS,
  CMD_FLAG_NO_HOLE,
  CMD_FLAG_REQ_ONE,
  CMD_FLUSH,
  CMD_READ,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  SEND_FLUSH,
  SEND_READ_ONLY,
  SEND_TRIM,
  SEND_WRITE_ZEROES,
  STATE_HOLE,
  STATE_ZERO,
} from '../protocol.ts';
import { type ClientLimits, DEFAULT_CLIENT_LIMITS, PIECE, SPAN_MAX } from './client-limits.ts';
import { NbdLink } from './nbd-link.ts';
import { canonicalUri, parseNbdUri } from './uri.ts';

export interface NbdDeviceOptions {
  readonly readOnly?: boolean;
  readonly limits?: Partial<ClientLimits>;
}

export class NbdDevice implements DiskFile {
  name: string;
  readonly size: number;
  readonly limits: DeviceLimits;
  readonly readOnly: boolean;
  readonly locked = false;
  readonly #link: NbdLink;
  readonly #pending = new PendingWork();
  readonly #flushes: FlushQueue;
  readonly #block: number;
  readonly #piece: number;
  /** The last of the changes that wait for one another; used where blocks are larger than a byte. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #changes = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;

  private constructor(name: string, link: NbdLink, readOnly: boolean) {
    const { size, flags, blockSize, payloadMax } = link.agreement;
    this.name = name;
    this.size = size;
    this.readOnly = readOnly;
    this.#link = link;
    this.#block = blockSize;
    this.#piece = roundDown(Math.min(PIECE, payloadMax), blockSize);
    this.limits = {
      alignment: 1,
      discardGranularity: (flags & SEND_TRIM) === 0 ? 0 : blockSize,
      growable: false,
    };
    this.#flushes = new FlushQueue(async () => {
      if (this.#has(SEND_FLUSH)) await this.#link.request(CMD_FLUSH, 0, 0, 0);
    }, !readOnly);
  }

  /**
   * Connects to an export.
   *
   * @param uri as doc/uri.md of the NBD project has it
   * @throws VimgError `USAGE` for what is no such URI, `NOT_FOUND` without such an export, `READ_ONLY` for writing to one
   *   that may only be read, `UNSUPPORTED`, `IO`
   */
  static async open(uri: string, options: NbdDeviceOptions = {}): Promise<NbdDevice> {
    const parsed = parseNbdUri(uri);
    const name = canonicalUri(parsed);
    const link = await NbdLink.open(parsed, name, { ...DEFAULT_CLIENT_LIMITS, ...options.limits });
    const mayOnlyRead = (link.agreement.flags & SEND_READ_ONLY) !== 0;
    if (mayOnlyRead && options.readOnly === false) {
      await link.close();
      throw new VimgError('READ_ONLY', 'The server lets it only be read', { op: 'open', path: name });
    }
    return new NbdDevice(name, link, options.readOnly ?? mayOnlyRead);
  }

  async changeLock(): Promise<void> {
    // there are none
  }

  async pread(buffer: Uint8Array, offset: number): Promise<void> {
    checkInside(this, 'read', offset, buffer.length);
    if (buffer.length === 0) return;
    await this.#pending.track(this.#read(buffer, offset));
  }

  async pwrite(buffer: Uint8Array, offset: number): Promise<void> {
    checkWritable(this, 'write', offset, buffer.length);
    if (buffer.length === 0) return;
    await this.#change(offset, buffer.length, () => this.#write(buffer, offset));
  }

  async writeZeroes(offset: number, length: number, options: WriteZeroesOptions = {}): Promise<void> {
    checkWritable(this, 'write zeroes', offset, length);
    if (length === 0) return;
    const flags = options.keepAllocated ? CMD_FLAG_NO_HOLE : 0;
    await this.#change(offset, length, () => this.#zero(offset, length, flags));
  }

  async discard(offset: number, length: number): Promise<void> {
    checkDiscard(this, offset, length);
    const from = roundUp(offset, this.#block);
    const to = roundDown(offset + length, this.#block);
    if (!this.#has(SEND_TRIM) || from >= to) return;
    await this.#change(from, to - from, () => this.#spans(CMD_TRIM, 0, from, to));
  }

  flush(): MaybePromise<void> {
    const done = this.#flushes.request();
    if (done !== undefined) return this.#pending.track(done);
  }

  async status(offset: number, length: number): Promise<Extent> {
    checkInside(this, 'status', offset, length);
    const unknown = { offset, length, zero: false, allocated: true };
    if (length === 0 || this.#link.agreement.allocationContext === undefined) return unknown;
    const from = roundDown(offset, this.#block);
    const asked = Math.min(roundUp(offset + length, this.#block), this.size) - from;
    const answer = await this.#pending.track(
      this.#link.request(CMD_BLOCK_STATUS, CMD_FLAG_REQ_ONE, from, Math.min(asked, SPAN_MAX)),
    );
    const known = answer === undefined ? 0 : answer.length - (offset - from);
    if (!answer || known <= 0) return unknown;
    const zero = (answer.flags & STATE_ZERO) !== 0;
    return { offset, length: Math.min(length, known), zero, allocated: (answer.flags & STATE_HOLE) === 0 };
  }

  resize(size: number): void {
    checkResize(this, size, false);
  }

  /** Not known over NBD. */
  allocatedBytes(): undefined {
    return undefined;
  }

  /** Nothing can be done with it any more. */
  get hasFailed(): boolean {
    return this.#link.hasFailed;
  }

  close(): Promise<void> {
    this.#closed ??= this.#pending.idle().then(() => this.#link.close());
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #has(flag: number): boolean {
    return (this.#link.agreement.flags & flag) !== 0;
  }

  /** Reads whole blocks around the range, where it has edges. */
  async #read(buffer: Uint8Array, offset: number): Promise<void> {
    const from = roundDown(offset, this.#block);
    const to = Math.min(roundUp(offset + buffer.length, this.#block), this.size);
    if (from === offset && to === offset + buffer.length) return this.#pieces(CMD_READ, buffer, offset);
    const around = new Uint8Array(to - from);
    await this.#pieces(CMD_READ, around, from);
    buffer.set(around.subarray(offset - from, offset - from + buffer.length));
  }

  async #write(buffer: Uint8Array, offset: number): Promise<void> {
    const from = roundDown(offset, this.#block);
    const to = Math.min(roundUp(offset + buffer.length, this.#block), this.size);
    if (from === offset && to === offset + buffer.length) return this.#pieces(CMD_WRITE, buffer, offset);
    const around = new Uint8Array(to - from);
    await this.#pieces(CMD_READ, around, from);
    around.set(buffer, offset - from);
    await this.#pieces(CMD_WRITE, around, from);
  }

  async #zero(offset: number, length: number, flags: number): Promise<void> {
    const from = Math.min(roundUp(offset, this.#block), offset + length);
    const to = Math.max(from, roundDown(offset + length, this.#block));
    if (!this.#has(SEND_WRITE_ZEROES)) return this.#writeZeroBytes(offset, offset + length);
    await this.#writeZeroBytes(offset, from);
    await this.#spans(CMD_WRITE_ZEROES, flags, from, to);
    await this.#writeZeroBytes(to, offset + length);
  }

  async #writeZeroBytes(from: number, to: number): Promise<void> {
    const zeroes = new Uint8Array(Math.min(to - from, this.#piece));
    for (let at = from; at < to; at += zeroes.length) {
      await this.#write(zeroes.subarray(0, Math.min(zeroes.length, to - at)), at);
    }
  }

  /** A command that moves no data, over as much as one request can name at a time. */
  async #spans(type: number, flags: number, from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += SPAN_MAX) {
      await this.#link.request(type, flags, at, Math.min(SPAN_MAX, to - at));
    }
  }

  /** Waits for all pieces, so that no buffer is given back while it is used, then throws the first failure. */
  async #pieces(type: number, buffer: Uint8Array, offset: number): Promise<void> {
    if (buffer.length <= this.#piece) {
      await this.#link.request(type, 0, offset, buffer.length, buffer);
      return;
    }
    const work: Promise<unknown>[] = [];
    for (let at = 0; at < buffer.length; at += this.#piece) {
      const piece = buffer.subarray(at, at + this.#piece);
      work.push(this.#link.request(type, 0, offset + at, piece.length, piece));
    }
    const results = await Promise.allSettled(work);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** Whole blocks change side by side; what has edges waits for all others, and they for it. */
  async #change(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    const isWhole = offset % this.#block === 0 && length % this.#block === 0;
    const running = this.#block === 1 ? work() : isWhole ? this.#beside(work) : this.#alone(work);
    await this.#pending.track(running);
    this.#flushes.wrote();
  }

  #beside(work: () => Promise<void>): Promise<void> {
    const running = this.#turn.then(work);
    this.#changes.add(running);
    return running.finally(() => this.#changes.delete(running));
  }

  #alone(work: () => Promise<void>): Promise<void> {
    const before = Promise.allSettled([this.#turn, ...this.#changes]);
    const running = before.then(work);
    this.#turn = running.catch(() => undefined); // told to who asked for it
    return running;
  }
}
