/**
 * The way to a server: connections, the requests that wait for room on one, and what happens when one is lost.
 *
 * A connection that is lost is made anew for a while, and what it had not answered is asked again. But when a change was
 * not answered, the server may still do it after a newer one; and when changes were acknowledged that no flush covers
 * yet, nobody can tell whether the server still has them. Then the link has failed for good: everything fails, so that a
 * reader never sees old content in the place of what was written.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fromSystemError, VimgError } from '../../base/errors.ts';
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
import { type ClientLimits, RECONNECT_PAUSE_MS, SENDINGS_MAX } from './client-limits.ts';
import { ClientRequest, type StatusAnswer } from './client-request.ts';
import { type Agreement, type Negotiated, negotiate } from './negotiation.ts';
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
  /** Connections so far. */
  #made = 0;
  #connecting = false;
  #mayGrow: boolean;
  #reconnecting = false;
  #lostBy: VimgError | undefined;
  /** Ends what is being connected. */
  readonly #closing = new AbortController();
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

  /** Closed, or failed for good. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
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
    request.covers = this.#acknowledged;
    this.#queue.push(request);
    this.#pump();
    return request.done;
  }

  /** Ends in order; nothing may be under way. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#failure ??= new VimgError('IO', 'the device is closed', { path: this.#path });
    await Promise.all(this.#connections.splice(0).map((connection) => connection.close()));
  }

  #add(negotiated: Negotiated): void {
    const connection: ClientConnection = new ClientConnection(
      negotiated,
      ++this.#made,
      this.#path,
      this.#limits,
      (error, unanswered) => this.#lost(connection, error, unanswered),
      (request) => this.#answered(request),
    );
    this.#connections.push(connection);
  }

  /** In the tick of the answer: what follows it in the same bytes may end the connection. */
  #answered({ type, error, covers }: ClientRequest): void {
    if (!error && type === CMD_FLUSH) this.#covered = Math.max(this.#covered, covers);
    if (!error && CHANGES.includes(type)) this.#acknowledged++;
    this.#pump();
  }

  #pump(): void {
    while (this.#queue.length > 0) {
      const request = this.#queue[0] as ClientRequest;
      const connection = this.#leastBusy(request.payload);
      if (!connection) {
        if (this.#connections.length === 0) void this.#reconnect();
        else if (this.#mayGrow) void this.#grow();
        return;
      }
      this.#queue.shift();
      if (connection.nth > request.countedAt) {
        request.sendings++;
        request.countedAt = this.#made;
      }
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
      const negotiated = await this.#connect();
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
    this.#lostBy = error;
    const keepsWrites = (this.agreement.flags & SEND_FLUSH) === 0; // without FLUSH an answer means durable
    const isDoubtful = this.#acknowledged > this.#covered && !keepsWrites;
    if (isDoubtful || unanswered.some(({ type }) => CHANGES.includes(type))) {
      const message = 'The connection was lost before writes were flushed: they may be lost too';
      this.#queue.unshift(...unanswered);
      this.#fail(new VimgError('IO', message, { path: this.#path, cause: error }));
      return;
    }
    this.#queue.unshift(...this.#askedAgain(unanswered, error));
    this.#pump();
  }

  /** All but those that were sent often enough: whatever ended so many connections ends the next one as well. */
  #askedAgain(unanswered: ClientRequest[], cause: VimgError): ClientRequest[] {
    return unanswered.filter((request) => {
      if (request.sendings < SENDINGS_MAX) return true;
      const message = `The connection was lost ${SENDINGS_MAX} times instead of an answer: ${cause.message}`;
      const { name: op, offset } = request;
      request.reject(new VimgError('IO', message, { op, path: this.#path, offset, cause }));
      return false;
    });
  }

  /** For the requests that wait. Without any there is no hurry: the next one sees to it. */
  async #reconnect(): Promise<void> {
    if (this.#reconnecting) return;
    this.#reconnecting = true;
    try {
      this.#add(await this.#connectAgain());
    } catch (failure) {
      const error = failure as VimgError;
      const message = `The connection was lost, and could not be made anew: ${error.message}`;
      this.#fail(new VimgError('IO', message, { path: this.#path, cause: error }));
    } finally {
      this.#reconnecting = false;
    }
    this.#pump();
  }

  /** @throws VimgError why the last try failed, after `reconnectMs` */
  async #connectAgain(): Promise<Negotiated> {
    const endMs = performance.now() + this.#limits.reconnectMs;
    let error = this.#lostBy as VimgError;
    while (performance.now() < endMs && !this.#failure) {
      try {
        const negotiated = await this.#connect();
        if (!this.#failure && sameExport(negotiated.agreement, this.agreement)) return negotiated;
        negotiated.socket.destroy();
        const message = 'The server has another export under this name now';
        throw new VimgError('UNSUPPORTED', message, { path: this.#path });
      } catch (failure) {
        error = fromSystemError(failure, { path: this.#path });
        if (error.code === 'UNSUPPORTED') break; // another server: it will not become the old one
      }
      await sleep(RECONNECT_PAUSE_MS);
    }
    throw this.#failure ?? error;
  }

  #connect(): Promise<Negotiated> {
    return negotiate(this.#uri, this.#limits, this.#closing.signal);
  }

  #fail(error: VimgError): void {
    this.#failure ??= error;
    this.#closing.abort();
    const unanswered = this.#connections.splice(0).flatMap((connection) => connection.abandon());
    for (const request of [...unanswered, ...this.#queue.splice(0)]) request.reject(this.#failure);
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
