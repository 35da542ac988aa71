/**
 * The side that has a volume attached: lets other processes of the user work with its files.
 *
 * A connection is one process. What it has open is closed, and its locks are gone, as soon as it hangs up, however it
 * ended. Names that a client changes are durable when it is answered. `close` is a farewell: what was asked for is
 * answered, everything is flushed, and only then is hung up; so a client loses nothing by it.
 */
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { fromSystemError, isVimgError, VimgError } from '../base/errors.ts';
import type { DiskFile, FileSystem } from '../device/file-system.ts';
import type { LockMode } from '../host/file-lock.ts';
import { BODY_MAX, type Frame, FrameReader } from './frame.ts';
import { FrameSender } from './frame-sender.ts';
import type { LockOwner } from './lock-table.ts';
import type { PlaceFiles } from './place-files.ts';
import {
  errorToWire,
  FAREWELL,
  HELLO,
  type OpenAnswer,
  PROTOCOL_VERSION,
  statusToWire,
} from './place-protocol.ts';

export interface PlaceHost {
  /** The files, as this client may use them. */
  filesFor(owner: LockOwner): PlaceFiles;
  /** Anything else that can be asked of the volume: space, locks, a check. */
  ask(question: string, argument: string | undefined): Promise<unknown>;
}

/** Requests of one connection under way; more are read when some are done. */
const REQUESTS_MAX = 128;
const CONNECTIONS_MAX = 256;
const OPEN_FILES_MAX = 4096;
const OWNER_ONLY = 0o177;

export class PlaceServer {
  readonly #path: string;
  readonly #server: Server;
  readonly #connections = new Set<PlaceConnection>();

  private constructor(path: string, host: PlaceHost) {
    this.#path = path;
    this.#server = createServer((socket) => {
      const connection = new PlaceConnection(socket, host, () => this.#connections.delete(connection));
      this.#connections.add(connection);
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** Listens at a Unix socket in a folder that is the user's alone. A socket that is there already is a dead one's. */
  static async listen(path: string, host: PlaceHost): Promise<PlaceServer> {
    const server = new PlaceServer(path, host);
    await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', (error) => reject(fromSystemError(error, { op: 'listen', path })));
      const mask = process.umask(OWNER_ONLY); // the socket is made within `listen`, in this tick
      try {
        server.#server.listen(path, resolve);
      } finally {
        process.umask(mask);
      }
    });
    server.#server.on('error', () => undefined); // a connection that could not be accepted: its client is told
    return server;
  }

  /** How many processes use the volume through this one. */
  get clients(): number {
    return this.#connections.size;
  }

  async close(): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await Promise.all([...this.#connections].map((connection) => connection.farewell()));
    await stopped;
    await rm(this.#path, { force: true });
  }
}

class PlaceConnection {
  readonly #socket: Socket;
  readonly #sender: FrameSender;
  readonly #host: PlaceHost;
  readonly #reader = new FrameReader();
  readonly #open = new Map<number, DiskFile>();
  readonly #running = new Set<Promise<void>>();
  #files: PlaceFiles | undefined;
  #lastHandle = 0;
  #leaving = false;

  constructor(socket: Socket, host: PlaceHost, onClosed: () => void) {
    this.#socket = socket;
    this.#sender = new FrameSender(socket);
    this.#host = host;
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      onClosed();
      void this.#closeAll();
    });
  }

  /** Answers what was asked, flushes, says goodbye. */
  async farewell(): Promise<void> {
    this.#leaving = true;
    await Promise.all(this.#running);
    let flushed = true;
    for (const file of this.#open.values()) {
      if (file.readOnly) continue;
      try {
        await file.flush();
      } catch {
        flushed = false; // then it is no farewell: the client must not believe that nothing is lost
      }
    }
    await this.#closeAll();
    if (this.#socket.closed) return;
    if (flushed) this.#send({ event: FAREWELL });
    await new Promise<void>((resolve) => {
      this.#socket.once('close', resolve);
      this.#socket.destroySoon();
    });
  }

  async #closeAll(): Promise<void> {
    const files = [...this.#open.values()];
    this.#open.clear();
    await Promise.allSettled(files.map((file) => file.close()));
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#reader.push(chunk)) {
        if (this.#leaving) return; // whoever asked asks again elsewhere
        const running = this.#answer(frame).finally(() => {
          this.#running.delete(running);
          if (this.#running.size < REQUESTS_MAX) this.#socket.resume();
        });
        this.#running.add(running);
      }
      if (this.#running.size >= REQUESTS_MAX) this.#socket.pause();
    } catch (error) {
      if (!isVimgError(error)) throw error;
      this.#socket.destroy();
    }
  }

  async #answer({ head, body }: Frame): Promise<void> {
    const { id } = head;
    try {
      const answer = await this.#do(head, body);
      if (answer instanceof Uint8Array) this.#send({ id }, answer);
      else this.#send({ id, result: answer ?? null });
    } catch (error) {
      const known = isVimgError(error) ? error : fromSystemError(error, { op: 'do what was asked' });
      this.#send({ id, error: errorToWire(known) });
    }
  }

  #send(head: Frame['head'], body?: Uint8Array): void {
    if (this.#socket.writable) this.#sender.send(head, body);
  }

  #do(head: Frame['head'], body: Uint8Array): Promise<unknown> | unknown {
    const { method } = head;
    if (method === HELLO) return this.#greet(head);
    if (!this.#files) throw new VimgError('USAGE', 'The first request is hello');
    if (method === 'open') return this.#openFile(this.#files, head);
    if (typeof head['handle'] === 'number') return this.#onFile(String(method), head['handle'], head, body);
    return this.#onFiles(this.#files, String(method), head, body);
  }

  #greet({ version, owner }: Frame['head']): unknown {
    if (version !== PROTOCOL_VERSION) {
      throw new VimgError('UNSUPPORTED', 'The process that has the volume runs another version of vimg', {
        hint: 'stop it, or use that version',
      });
    }
    this.#files = this.#host.filesFor(owner as LockOwner);
    return { version: PROTOCOL_VERSION, pid: process.pid };
  }

  async #openFile(files: PlaceFiles, { path, options }: Frame['head']): Promise<OpenAnswer> {
    if (this.#open.size >= OPEN_FILES_MAX) throw new VimgError('LIMIT', 'Too many open files');
    const wanted = options as Parameters<FileSystem['open']>[1];
    const file = await files.open(String(path), wanted);
    if (wanted.create !== undefined) await files.syncFolder(String(path));
    if (this.#socket.closed) {
      await file.close();
      throw new VimgError('CANCELLED', 'Nobody waits for the file any more');
    }
    const handle = ++this.#lastHandle;
    this.#open.set(handle, file);
    const { identity, size, limits, readOnly, locked } = file;
    return { handle, identity, size, limits, readOnly, locked };
  }

  async #onFile(method: string, handle: number, head: Frame['head'], body: Uint8Array): Promise<unknown> {
    const file = this.#open.get(handle);
    if (!file) throw new VimgError('IO', 'The file is closed');
    const offset = Number(head['offset'] ?? 0);
    const length = Number(head['length'] ?? 0);
    switch (method) {
      case 'read': {
        if (!(length <= BODY_MAX)) throw new VimgError('LIMIT', 'The transfer is too long');
        const bytes = Buffer.allocUnsafe(length);
        await file.pread(bytes, offset);
        return bytes;
      }
      case 'write':
        return file.pwrite(body, offset);
      case 'zero':
        return file.writeZeroes(offset, length, { keepAllocated: head['keepAllocated'] === true });
      case 'discard':
        return file.discard(offset, length);
      case 'flush':
        return file.flush();
      case 'status':
        return file.status(offset, length);
      case 'resize':
        return file.resize(length);
      case 'allocated':
        return file.allocatedBytes();
      case 'lock':
        return file.changeLock(head['mode'] as LockMode);
      case 'name':
        file.name = String(head['name']);
        return undefined;
      case 'close':
        this.#open.delete(handle);
        return file.close();
      default:
        throw unknown(method);
    }
  }

  async #onFiles(files: PlaceFiles, method: string, head: Frame['head'], body: Uint8Array): Promise<unknown> {
    const path = String(head['path']);
    const to = String(head['to']);
    switch (method) {
      case 'status': {
        const status = await files.status(path);
        return status && statusToWire(status);
      }
      case 'refuseLock':
        return files.refuseLock(path, head['mode'] as LockMode);
      case 'lockHolders':
        return files.lockHolders(path);
      case 'list':
        return files.list(path);
      case 'realPath':
        return files.realPath(path);
      case 'rename':
        return durably(files, path, () => files.rename(path, to));
      case 'link':
        return durably(files, path, () => files.link(path, to));
      case 'copy':
        return durably(files, path, async () => (await files.copy?.(path, to)) ?? false);
      case 'remove':
        return durably(files, path, () => files.remove(path));
      case 'makeFolder':
        return durably(files, path, () => files.makeFolder(path));
      case 'removeFolder':
        return durably(files, path, () => files.removeFolder(path));
      case 'syncFolder':
        return files.syncFolder(path);
      case 'replace':
        return files.replace(path, body);
      case 'ask':
        return this.#host.ask(String(head['question']), head['argument'] as string | undefined);
      default:
        throw unknown(method);
    }
  }
}

/**
 * A change of names is durable before it is answered: a client outlives this process, and goes on elsewhere with what it
 * was told.
 */
async function durably<T>(files: FileSystem, path: string, work: () => Promise<T>): Promise<T> {
  const done = await work();
  await files.syncFolder(path);
  return done;
}

function unknown(method: string): VimgError {
  return new VimgError('UNSUPPORTED', `There is no method '${method}' here`);
}
