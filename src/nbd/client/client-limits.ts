/** Every bound of the NBD client. Times in milliseconds, sizes in bytes. */
export interface ClientLimits {
  /** From the first packet to the end of the handshake. */
  readonly handshakeMs: number;
  /** Without an answer, or {@link PROGRESS_BYTES} of data, while one is owed: the connection counts as lost. */
  readonly silenceMs: number;
  /** From sending a request to the end of its answer, whatever else is answered: then too. */
  readonly replyMs: number;
  /** How long a lost connection is made anew, again and again. 0: not at all. */
  readonly reconnectMs: number;
  /** Requests that wait for their answer, and bytes they carry, on one connection. */
  readonly requests: number;
  readonly requestBytes: number;
  /** Connections, where the server promises that they see one another's writes. */
  readonly connections: number;
}

export const DEFAULT_CLIENT_LIMITS: ClientLimits = {
  handshakeMs: 10_000,
  silenceMs: 120_000,
  replyMs: 600_000,
  reconnectMs: 15_000,
  requests: 64,
  requestBytes: 16 * 1024 * 1024,
  connections: 4,
};

/** Data that counts as progress: less, in so much time as a silence may last, is no line to work over. */
export const PROGRESS_BYTES: number = 64 * 1024;
/** How often one request is sent, each time over newer connections, before it counts as what ends them. */
export const SENDINGS_MAX = 4;
/** Time between two tries to connect again. */
export const RECONNECT_PAUSE_MS = 200;
/** Data of one reply to an option, and replies to one option. */
export const OPTION_REPLY_MAX: number = 64 * 1024;
export const OPTION_REPLIES_MAX = 1024;
/** Bytes of one request that moves data: what every server must take ("Block size constraints"). */
export const PAYLOAD_MAX: number = 32 * 1024 * 1024;
/** Larger transfers are cut into pieces, which are under way together. */
export const PIECE: number = 1024 * 1024;
/** Chunks of one reply: no more than sectors of a piece, and some. */
export const REPLY_CHUNKS_MAX = 8192;
/** Bytes of a chunk that is no data: extents, messages. */
export const SMALL_CHUNK_MAX: number = 1024 * 1024;
/** Bytes of a request of 32 bits that moves no data. */
export const SPAN_MAX: number = 2 ** 31;
