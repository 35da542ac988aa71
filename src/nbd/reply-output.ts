/**
 * Replies on their way to a client, gathered: what is answered in one turn of the event loop leaves in one write.
 *
 * Replies are made in place in an arena, a buffer of 260 KiB: a read of the device lands where the socket takes it
 * from. A reply that has to wait for its device is detached: it keeps its place in the arena, and those made after it
 * go out before it.
 *
 *     arena   | sent | ready | detached | ready | free |
 *
 * Invariants: an arena goes back to the pool when no detached reply lies in it and the socket took all that was sent;
 * bytes from `sent` to `used` of the current arena are complete replies, except the one reserved last.
 */
import type { BufferPool } from './buffer-pool.ts';

const ARENA_BYTES = 260 * 1024;

/** The part of a socket that takes replies. */
export interface ReplySink {
  readonly writableLength: number;
  cork(): void;
  uncork(): void;
  write(bytes: Buffer, taken: () => void): boolean;
}

class Arena {
  readonly buffer: Buffer;
  readonly view: DataView;
  used = 0;
  sent = 0;
  /** Detached replies in it, and writes that the socket did not take yet. */
  references = 0;
  readonly taken: () => void;

  constructor(buffer: Buffer, taken: (arena: Arena) => void) {
    this.buffer = buffer;
    this.view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    this.taken = () => taken(this);
  }
}

/** The place of one reply. Used again and again. */
export class Region {
  arena: Arena | undefined = undefined;
  start = 0;
  size = 0;
  detached = false;
}

interface Segment {
  readonly arena: Arena;
  readonly from: number;
  readonly to: number;
}

export class ReplyOutput {
  readonly #socket: ReplySink;
  readonly #pool: BufferPool;
  readonly #onTaken: () => void;
  #current: Arena | undefined;
  #segments: Segment[] = [];
  #readyBytes = 0;
  #closed = false;

  /** @param onTaken called when the socket took something: there may be room again */
  constructor(socket: ReplySink, pool: BufferPool, onTaken: () => void) {
    this.#socket = socket;
    this.#pool = pool;
    this.#onTaken = onTaken;
  }

  /** Bytes of complete replies that the system did not take yet. */
  get unsentBytes(): number {
    return this.#readyBytes + this.#socket.writableLength;
  }

  /** Makes place for a reply of `size` bytes. Before anything else is reserved it is committed, detached or undone. */
  reserve(region: Region, size: number): Arena {
    const arena = this.#arenaFor(size);
    region.arena = arena;
    region.start = arena.used;
    region.size = size;
    region.detached = false;
    arena.used += size;
    return arena;
  }

  /** The reply is complete: it leaves with the next {@link flush}. */
  commit(region: Region): void {
    const arena = region.arena as Arena;
    region.arena = undefined;
    if (this.#closed) {
      this.#release(arena, region.detached);
      return;
    }
    this.#readyBytes += region.size;
    if (!region.detached && arena === this.#current) return;
    if (!region.detached) arena.references++;
    this.#segments.push({ arena, from: region.start, to: region.start + region.size });
  }

  /** The reply waits for its device. */
  detach(region: Region): void {
    const arena = region.arena as Arena;
    if (arena === this.#current) this.#cut(arena, region.start);
    arena.sent = arena.used;
    arena.references++;
    region.detached = true;
  }

  /** There will be no such reply. */
  undo(region: Region): void {
    const arena = region.arena as Arena;
    region.arena = undefined;
    if (!region.detached) arena.used = region.start;
    this.#release(arena, region.detached);
  }

  /** Hands all complete replies to the socket. */
  flush(): void {
    if (this.#current) this.#cut(this.#current, this.#current.used);
    this.#readyBytes = 0;
    const segments = this.#segments;
    if (segments.length === 0) return;
    this.#segments = [];
    const several = segments.length > 1;
    if (several) this.#socket.cork();
    for (const { arena, from, to } of segments) {
      this.#socket.write(arena.buffer.subarray(from, to), arena.taken);
    }
    if (several) this.#socket.uncork();
  }

  /** The client is gone: buffers go back as soon as nobody writes to them. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { arena } of this.#segments) this.#release(arena, true);
    this.#segments = [];
    this.#readyBytes = 0;
    const last = this.#current;
    this.#current = undefined;
    if (last) this.#release(last, false);
  }

  #arenaFor(size: number): Arena {
    if (size > ARENA_BYTES) return this.#newArena(size);
    const current = this.#current;
    if (current && current.used + size <= current.buffer.length) return current;
    const next = this.#newArena(ARENA_BYTES);
    if (this.#closed) return next;
    this.#current = next;
    if (current) {
      this.#cut(current, current.used);
      this.#release(current, false);
      this.flush();
    }
    return next;
  }

  #newArena(size: number): Arena {
    return new Arena(this.#pool.take(size), this.#taken);
  }

  /** Complete replies up to `end` become one write. */
  #cut(arena: Arena, end: number): void {
    if (arena.sent >= end) return;
    arena.references++;
    this.#segments.push({ arena, from: arena.sent, to: end });
    arena.sent = end;
  }

  readonly #taken = (arena: Arena): void => {
    this.#release(arena, true);
    this.#onTaken();
  };

  #release(arena: Arena, referenced: boolean): void {
    if (referenced) arena.references--;
    if (arena.references > 0) return;
    if (arena !== this.#current) {
      this.#pool.give(arena.buffer);
    } else if (arena.sent === arena.used) {
      arena.used = 0;
      arena.sent = 0;
    }
  }
}
