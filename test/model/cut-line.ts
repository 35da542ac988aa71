/** A line to a server that can be cut: everything that is under way on it is lost, on both sides. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';

export class CutLine {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Whoever connects to `at` talks to `to`; both are Unix sockets. */
  static async lay(at: string, to: string): Promise<CutLine> {
    const server = createServer();
    const line = new CutLine(server);
    server.on('connection', (near) => line.#join(near, connect(to)));
    await new Promise<void>((resolve) => server.listen(at, resolve));
    return line;
  }

  /** Ends all connections at once; new ones can be made. Resolves when who is at their ends in this process knows. */
  async cut(): Promise<void> {
    const all = [...this.#sockets];
    for (const socket of all) socket.destroy();
    while (all.some((socket) => this.#sockets.has(socket))) await setImmediate();
    for (let turn = 0; turn < 3; turn++) await setImmediate(); // their ends are told of it by the next poll
  }

  async close(): Promise<void> {
    await this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #join(near: Socket, far: Socket): void {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => from.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.pipe(to, { end: true });
    }
  }
}
