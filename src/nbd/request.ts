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
  offset = 0;
  length = 0;
  /** Data of a WRITE; where it was put together in a buffer of the pool, that too. */
  payload: Buffer | undefined = undefined;
  pooled: Buffer | undefined = undefined;
  /** Bytes of payload that arrived, while it is put together. */
  filled = 0;
  readonly region: Region = new Region();
  /** READ in pieces. */
  pieces: readonly ReadPiece[] | undefined = undefined;
  /** BLOCK_STATUS. */
  statuses: readonly ContextStatus[] = [];
  /** The FUA flag was honoured. */
  flushed = false;
  /** The device gave a promise: the reply comes in a later turn. */
  later = false;
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
    this.statuses = [];
    this.flushed = false;
    this.later = false;
  }
}
