/**
 * The way to a server: connections, the requests that wait for room on one, and what happens when one is lost.
 *
 * A connection that is lost is made anew for a while, and what it had not answered is asked again. But when a change was
 * not answered, the server may still do it after a newer one; and when changes were acknowledged that no flush covers
 * yet, nobody can tell whether the server still has them. Then the link has failed for good: everything fails, so that a
 * reader never sees old content in the place of what was written.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { VimgError } from '../../base/errors.ts';
import {
  CMD_FLUSH,
  CMD_TRIM,
  CMD_WRITE,
  CMD_WRITE_ZEROES,
  SEND_FLUSH,
  SEND_MULTI_CONN,
  SEND_READ_ONLY,
} from '../protocol.ts';
import { ClientConnection } from './client-connection.ts';
import { type ClientLimits, RECONNECT_PAUSE_MS } from './client-limits.ts';
import { ClientRequest, type StatusAnswer } from './client-request.ts';
import { type Agreement, negotiate } from './negotiation.ts';
import type { NbdUri } from './uri.ts';

/** Commands that change something. */
const CHANGES: readonly number[] = [CMD_WRITE, CMD_WRITE_ZEROES, CMD_TRIM];

export class NbdLink {
  readonly agreement: Agreement;
  readonly #uri: NbdUri;
  readonly #path: string;
  readonly #limits: ClientLimits;
  readonly #connections: ClientConnection[] = [];
  /** Not sent yet; those that a lost connection had not answered come first. */
  readonly #queue: ClientRequest[] = [];
  #failure: VimgError | undefined;
  #connecting = false;
  #mayGrow: boolean;
  #closing = false;
  /** Changes that were acknowledged, and how many of them a flush covered. */
  #acknowledged = 0;
  #covered = 0;

  private constructor(uri: NbdUri, path: string, limits: ClientLimits, agreement: Agreement) {
    this.#uri = uri;
    this.#path = path;
    this.#limits = limits;
    this.agreement = agreement;
    this.#mayGrow = (agreement.flags & SEND_MULTI_CONN) !== 0;
  }

  /** @throws VimgError what {@link negotiate} throws */
  static async open(uri: NbdUri, path: string, limits: ClientLimits): Promise<NbdLink> {
    const negotiated = await negotiate(uri, limits);
    const link = new NbdLink(uri, path, limits, negotiated.agreement);
    link.#add(negotiated);
    return link;
  }

  /** Sends a request as soon as there is room. @throws VimgError what the server answered; `IO` for a lost link */
  async request(
    type: number,
    flags: number,
    offset: number,
    length: number,
    buffer?: Uint8Array,
  ): Promise<StatusAnswer | undefined> {
    if (this.#failure) throw this.#failure;
    const request = new ClientRequest(type, flags, offset, length, buffer);
    const before = this.#acknowledged;
    this.#queue.push(request);
    this.#pump();
    const answer = await request.done;
    if (type === CMD_FLUSH) this.#covered = Math.max(this.#covered, before);
    if (CHANGES.includes(type)) this.#acknowledged++;
    return answer;
  }

  /** Ends in order; nothing may be under way. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#failure ??= new VimgError('IO', 'the device is closed', { path: this.#path });
    await Promise.all(this.#connections.splice(0).map((connection) => connection.close()));
  }

  #add(negotiated: Awaited<ReturnType<typeof negotiate>>): void {
    const connection: ClientConnection = new ClientConnection(
      negotiated,
      this.#path,
      this.#limits,
      (error, unanswered) => this.#lost(connection, error, unanswered),
      () => this.#pump(),
    );
    this.#connections.push(connection);
  }

  #pump(): void {
    while (this.#queue.length > 0) {
      const request = this.#queue[0] as ClientRequest;
      const connection = this.#leastBusy(request.payload);
      if (!connection) {
        if (this.#mayGrow && this.#connections.length > 0) void this.#grow();
        return;
      }
      this.#queue.shift();
      connection.send(request);
    }
  }

  #leastBusy(payload: number): ClientConnection | undefined {
    let best: ClientConnection | undefined;
    for (const connection of this.#connections) {
      if (connection.hasRoom(payload) && (!best || connection.inFlight < best.inFlight)) best = connection;
    }
    return best;
  }

  /** One connection more. It is no necessity: when it cannot be had, the others go on. */
  async #grow(): Promise<void> {
    if (this.#connecting || this.#connections.length >= this.#limits.connections) return;
    this.#connecting = true;
    try {
      const negotiated = await negotiate(this.#uri, this.#limits);
      if (this.#failure || !sameExport(negotiated.agreement, this.agreement)) negotiated.socket.destroy();
      else this.#add(negotiated);
    } catch {
      this.#mayGrow = false; // the server takes no more
    } finally {
      this.#connecting = false;
    }
    this.#pump();
  }

  #lost(connection: ClientConnection, error: VimgError, unanswered: ClientRequest[]): void {
    this.#connections.splice(this.#connections.indexOf(connection), 1);
    this.#queue.unshift(...unanswered);
    if (this.#closing) return;
    const keepsWrites = (this.agreement.flags & SEND_FLUSH) === 0; // without FLUSH an answer means durable
    const isDoubtful = this.#acknowledged > this.#covered && !keepsWrites;
    if (isDoubtful || unanswered.some(({ type }) => CHANGES.includes(type))) {
      const message = 'The connection was lost before writes were flushed: they may be lost too';
      this.#fail(new VimgError('IO', message, { path: this.#path, cause: error }));
    } else if (this.#connections.length > 0) this.#pump();
    else void this.#reconnect(error);
  }

  async #reconnect(reason: VimgError): Promise<void> {
    const endMs = performance.now() + this.#limits.reconnectMs;
    let error = reason;
    while (performance.now() < endMs && !this.#closing) {
      try {
        const negotiated = await negotiate(this.#uri, this.#limits);
        if (sameExport(negotiated.agreement, this.agreement)) {
          this.#add(negotiated);
          this.#pump();
          return;
        }
        negotiated.socket.destroy();
        error = new VimgError('IO', 'The server has another export under this name now', {
          path: this.#path,
        });
        break;
      } catch (failure) {
        if (failure instanceof VimgError) error = failure;
      }
      await sleep(RECONNECT_PAUSE_MS, undefined, { ref: this.#queue.length > 0 });
    }
    const message = `The connection was lost, and could not be made anew: ${error.message}`;
    this.#fail(new VimgError('IO', message, { path: this.#path, cause: error }));
  }

  #fail(error: VimgError): void {
    this.#failure ??= error;
    for (const request of this.#queue.splice(0)) request.reject(this.#failure);
    for (const connection of this.#connections.splice(0)) void connection.close();
  }
}

/** Whether an export is still what it was: requests of the old one make sense for the new one. */
function sameExport(one: Agreement, other: Agreement): boolean {
  return (
    one.size >= other.size &&
    (one.flags & SEND_READ_ONLY) === (other.flags & SEND_READ_ONLY) &&
    one.blockSize <= other.blockSize &&
    one.payloadMax >= other.payloadMax &&
    one.replies === other.replies &&
    one.allocationContext === other.allocationContext
  );
}
