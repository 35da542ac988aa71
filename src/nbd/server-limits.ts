/** Every bound of a server: no client can make it hold more than this. */

export interface ServerLimits {
  /** Connections at once; one more is closed as soon as it is accepted. */
  readonly connections: number;
  /** Milliseconds from the connection to the transmission phase. */
  readonly handshakeMs: number;
  /** Requests of one client that wait for the device. */
  readonly requests: number;
  /**
   * Bytes of one client in memory: payload being written, data being read, replies that the client did not take yet.
   * One request is let in whatever its size, so the largest (`PAYLOAD_MAX`) always passes.
   */
  readonly bufferedBytes: number;
  /** Bytes of this that a client has for itself, whatever others use; less where there may be very many clients. */
  readonly ownBytes: number;
  /** Bytes that all clients together have beyond their own. */
  readonly sharedBytes: number;
  /** Milliseconds that a client has, at shutdown, to take the replies that are ready. */
  readonly shutdownMs: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  connections: 256,
  handshakeMs: 10_000,
  requests: 128,
  bufferedBytes: 16 * 1024 * 1024,
  ownBytes: 1024 * 1024,
  sharedBytes: 256 * 1024 * 1024,
  shutdownMs: 5000,
};

/** What every client has for itself even where there may be thousands. */
const OWN_BYTES_MIN = 64 * 1024;

/** What one client has for itself, so that all of them together have as much as they share, at the most. */
export function ownBytesOf({ ownBytes, sharedBytes, connections }: ServerLimits): number {
  return Math.min(ownBytes, Math.max(OWN_BYTES_MIN, Math.floor(sharedBytes / connections)));
}

/** Largest payload of a read or write: what a server should take at least ("Size constraints"). */
export const PAYLOAD_MAX: number = 32 * 1024 * 1024;
/** Largest data of an option; more is dropped as it arrives, and refused. */
export const OPTION_DATA_MAX: number = 64 * 1024;
