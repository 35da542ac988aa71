/**
 * Bytes that arrived and were not used yet. Messages are read where they lie; only one that is split over two pieces
 * is put together, in a small buffer of its own. Payload is handed on piece by piece.
 */
import { invariant } from '../base/errors.ts';

const JOINED_MAX = 64;

export class SocketInput {
  readonly #chunks: Buffer[] = [];
  readonly #joined: Buffer = Buffer.alloc(JOINED_MAX);
  /** Bytes of the first chunk that were used. */
  #used = 0;
  #length = 0;

  /** Bytes at hand. */
  get length(): number {
    return this.#length;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** A buffer that holds the next `length` bytes at {@link offset}; they stay to be used. `length` ≤ 64. */
  peek(length: number): Buffer {
    const first = this.#chunks[0] as Buffer;
    if (first.length - this.#used >= length) return first;
    invariant(length <= JOINED_MAX && length <= this.#length, 'a message is looked at when it is there');
    let done = 0;
    let from = this.#used;
    for (const chunk of this.#chunks) {
      done += chunk.copy(this.#joined, done, from, Math.min(chunk.length, from + length - done));
      if (done === length) break;
      from = 0;
    }
    return this.#joined;
  }

  /** Where in the buffer of {@link peek} the bytes begin. */
  offsetIn(buffer: Buffer): number {
    return buffer === this.#joined ? 0 : this.#used;
  }

  /** The next bytes that lie in one piece, `most` at most; they count as used. */
  take(most: number): Buffer {
    const first = this.#chunks[0];
    if (first === undefined) return EMPTY;
    const end = Math.min(first.length, this.#used + most);
    const piece = first.subarray(this.#used, end);
    this.skip(piece.length);
    return piece;
  }

  /** Copies bytes into `target` from `at` on, as many as are there and fit. Returns how many. */
  copyTo(target: Uint8Array, at: number, most: number): number {
    let done = 0;
    while (done < most && this.#length > 0) {
      const piece = this.take(most - done);
      target.set(piece, at + done);
      done += piece.length;
    }
    return done;
  }

  /** Drops up to `most` bytes. Returns how many. */
  skip(most: number): number {
    const count = Math.min(most, this.#length);
    this.#length -= count;
    this.#used += count;
    let first = this.#chunks[0];
    while (first !== undefined && this.#used >= first.length) {
      this.#used -= first.length;
      this.#chunks.shift();
      first = this.#chunks[0];
    }
    return count;
  }

  /** Bytes that lie in one piece at the front. */
  get inOnePiece(): number {
    const first = this.#chunks[0];
    return first === undefined ? 0 : first.length - this.#used;
  }
}

const EMPTY: Buffer = Buffer.alloc(0);
