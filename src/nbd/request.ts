/** One request of a client in the transmission phase. Objects are used again: a request on the hot path makes none. */
import type { MetadataContext } from './metadata-context.ts';
import { Region } from './reply-output.ts';

/** Extents of one metadata context, as BLOCK_STATUS answers: length, flags, length, flags… */
export interface ContextStatus {
  readonly context: MetadataContext;
  readonly extents: readonly number[];
}

/** A part of a READ that is answered in pieces: data, or a hole. */
export interface ReadPiece {
  readonly offset: number;
  readonly length: number;
  readonly hole: boolean;
}

/** Who is told that the device has finished with a request. */
export interface RequestOwner {
  completed(request: Request): void;
  failed(request: Request, error: unknown): void;
}

export class Request {
  type = 0;
  flags = 0;
  /** Opaque: sent back as it came. */
  cookieHigh = 0;
  cookieLow = 0;
  /** As it came, for extended replies; `offset` is exact up to 2^53, and more is refused. */
  offsetHigh = 0;
  offsetLow = 0;
  offset = 0;
  /** Bytes of the export that the command is about. */
  length = 0;
  /** Bytes that follow the header. */
  payloadLength = 0;
  /** Bytes of memory it is counted with while it is in flight. */
  cost = 0;
  /** What follows the header; where it was put together in a buffer of the pool, that too. */
  payload: Buffer | undefined = undefined;
  pooled: Buffer | undefined = undefined;
  /** Bytes of payload that arrived, while it is put together. */
  filled = 0;
  readonly region: Region = new Region();
  /** READ in pieces. */
  pieces: readonly ReadPiece[] | undefined = undefined;
  /** BLOCK_STATUS: the contexts that are asked about, where that is not all that were chosen; the answer. */
  contexts: readonly MetadataContext[] | undefined = undefined;
  statuses: readonly ContextStatus[] = [];
  /** The FUA flag was honoured. */
  flushed = false;
  /** The device gave a promise: the reply comes in a later turn. */
  later = false;
  /** When it was let in (performance.now), for statistics. */
  startedMs = 0;
  failed = false;
  readonly onCompleted: () => void;
  readonly onFailed: (error: unknown) => void;

  constructor(owner: RequestOwner) {
    this.onCompleted = () => owner.completed(this);
    this.onFailed = (error) => owner.failed(this, error);
  }

  /** Forgets everything that belongs to the request before. */
  reset(): void {
    this.payload = undefined;
    this.pooled = undefined;
    this.filled = 0;
    this.pieces = undefined;
    this.contexts = undefined;
    this.statuses = [];
    this.flushed = false;
    this.later = false;
    this.failed = false;
  }
}
