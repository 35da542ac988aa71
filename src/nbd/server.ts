/**
 * An NBD server: exports offered at one address, to several clients at once.
 *
 * The devices stay the caller's: `close` answers what is in flight and touches no device afterwards, so the caller
 * flushes and closes them then.
 */
import { lstat, rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { fromSystemError, VimgError } from '../base/errors.ts';
import { askForSendBuffer } from '../host/socket-buffer.ts';
import { BufferPool } from './buffer-pool.ts';
import { Connection, type ConnectionContext } from './connection.ts';
import type { Export } from './export.ts';
import { exportUri, type ListenAddress } from './listen-address.ts';
import { MemoryBudget } from './memory-budget.ts';
import { STRING_MAX } from './protocol.ts';
import { DEFAULT_LIMITS, ownBytesOf, type ServerLimits } from './server-limits.ts';
import type { ServerTls } from './tls-server.ts';

export interface NbdServerOptions {
  readonly exports: readonly Export[];
  readonly limits?: Partial<ServerLimits>;
  /** Protects every connection: without TLS a client gets nothing. Default: none has it. */
  readonly tls?: ServerTls | undefined;
  /** Told of every error that a device gave and of connections that could not be accepted. */
  readonly onError?: (error: VimgError) => void;
}

/** Holds a reply of 1 MiB: it leaves in one step, where Linux's default of 208 KiB needs several. */
const UNIX_SEND_BUFFER = 1024 * 1024;

/** A new socket is for its owner alone. */
const OWNER_ONLY = 0o177;

export class NbdServer {
  /** Where it listens; the port is the real one. */
  readonly addresses: readonly ListenAddress[];
  readonly #servers: readonly Server[];
  readonly #connections: Connections;
  readonly #isProtected: boolean;
  #closed: Promise<void> | undefined;

  private constructor(
    servers: readonly Server[],
    addresses: ListenAddress[],
    connections: Connections,
    isProtected: boolean,
  ) {
    this.#isProtected = isProtected;
    this.#servers = servers;
    this.addresses = addresses;
    this.#connections = connections;
  }

  /**
   * Starts to listen. A Unix socket gets mode 0600; one that a dead server left behind is replaced.
   *
   * @param where one address, or several for the same exports and limits
   * @throws VimgError `EXISTS` when an address is taken, `USAGE` for two exports of one name, `READ_ONLY` without
   *   permission, `IO`
   */
  static async listen(
    where: ListenAddress | readonly ListenAddress[],
    options: NbdServerOptions,
  ): Promise<NbdServer> {
    const { onError = () => undefined } = options;
    const limits: ServerLimits = { ...DEFAULT_LIMITS, ...options.limits };
    const context: ConnectionContext = {
      exports: byName(options.exports),
      limits,
      budget: new MemoryBudget(ownBytesOf(limits), limits.sharedBytes),
      pool: new BufferPool(),
      onError,
      tls: options.tls,
    };
    const connections = new Connections(context);
    const servers: Server[] = [];
    const addresses: ListenAddress[] = [];
    try {
      for (const address of 'length' in where ? where : [where]) {
        const server = createServer({ allowHalfOpen: true }, (socket) => connections.add(socket));
        await listenAt(server, address);
        server.on('error', (error) => onError(fromSystemError(error, { op: 'accept a connection' })));
        servers.push(server);
        addresses.push(realAddress(server, address));
      }
    } catch (error) {
      for (const server of servers) server.close();
      throw error;
    }
    return new NbdServer(servers, addresses, connections, options.tls !== undefined);
  }

  /** The first of its addresses. */
  get address(): ListenAddress {
    return this.addresses[0] as ListenAddress;
  }

  /** The URI by which clients find an export, at the first of its addresses. */
  uri(name: string): string {
    return exportUri(this.address, name, this.#isProtected);
  }

  /** Clients that are connected, or whose last requests the device still works on. */
  get clients(): number {
    return this.#connections.size;
  }

  /** Bytes that clients hold beyond what each has for itself: never more than `sharedBytes`, or one request. */
  get sharedBytesInUse(): number {
    return this.#connections.sharedBytesInUse;
  }

  /** Stops listening, answers what is in flight, ends every connection. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#closeNow();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #closeNow(): Promise<void> {
    const stopped = this.#servers.map((server) => new Promise<void>((done) => server.close(() => done())));
    await this.#connections.finish();
    await Promise.all(stopped);
  }
}

class Connections {
  readonly #context: ConnectionContext;
  readonly #open = new Set<Connection>();
  #finishing = false;
  #onEmpty: (() => void) | undefined;

  constructor(context: ConnectionContext) {
    this.#context = context;
  }

  get size(): number {
    return this.#open.size;
  }

  get sharedBytesInUse(): number {
    return this.#context.budget.usedBytes;
  }

  /** Takes a client; one more than may be is closed at once. */
  add(socket: Socket): void {
    if (this.#finishing || this.#open.size >= this.#context.limits.connections) {
      socket.on('error', () => undefined); // it never was a client
      socket.destroy();
      return;
    }
    // The system grows buffers of TCP by itself, and stops doing so once it is told a size.
    if (socket.remoteAddress === undefined) askForSendBuffer(socket, UNIX_SEND_BUFFER);
    const forget = (connection: Connection): void => {
      this.#open.delete(connection);
      if (this.#open.size === 0) this.#onEmpty?.();
    };
    this.#open.add(new Connection(socket, this.#context, forget));
  }

  /** Ends every connection; resolves when the last is forgotten. */
  async finish(): Promise<void> {
    this.#finishing = true;
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    if (this.#open.size === 0) return;
    for (const connection of this.#open) connection.finish();
    await empty;
  }
}

function byName(exports: readonly Export[]): ReadonlyMap<string, Export> {
  const map = new Map<string, Export>();
  for (const served of exports) {
    const { name } = served;
    if (map.has(name)) {
      throw new VimgError('USAGE', `Two exports have the name '${name}'`, { hint: 'give each its own name' });
    }
    if (Buffer.byteLength(name) > STRING_MAX || name.includes('\0')) {
      throw new VimgError('USAGE', 'The name of an export is too long, or holds a NUL', {
        hint: `it has up to ${STRING_MAX} bytes`,
      });
    }
    map.set(name, served);
  }
  return map;
}

async function listenAt(server: Server, address: ListenAddress): Promise<void> {
  try {
    await startListening(server, address);
  } catch (error) {
    if (!isAddressInUse(error)) throw fromSystemError(error, { op: 'listen' });
    if (!('socketPath' in address) || 'fd' in address || !(await isDead(address.socketPath))) {
      const where = 'socketPath' in address ? address.socketPath : `${address.host}:${address.port}`;
      throw new VimgError('EXISTS', `${where} is in use already`, { op: 'listen', cause: error });
    }
    await rm(address.socketPath);
    await startListening(server, address);
  }
}

function startListening(server: Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    if ('fd' in address) {
      server.listen({ fd: address.fd });
      return;
    }
    if (!('socketPath' in address)) {
      server.listen(address.port, address.host);
      return;
    }
    // A Unix socket is made within `listen`, in this tick: nobody sees it with another mode.
    const mask = process.umask(OWNER_ONLY);
    try {
      server.listen(address.socketPath);
    } finally {
      process.umask(mask);
    }
  });
}

function isAddressInUse(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
}

/** Whether a path is a socket, and nobody listens at it. */
async function isDead(socketPath: string): Promise<boolean> {
  if (!(await lstat(socketPath)).isSocket()) return false;
  return new Promise((resolve) => {
    const socket: Socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}

function realAddress(server: Server, address: ListenAddress): ListenAddress {
  const bound = server.address();
  if ('socketPath' in address || bound === null || typeof bound === 'string') return address;
  if ('fd' in address) return { fd: address.fd, host: bound.address, port: bound.port };
  return { host: address.host, port: bound.port };
}
