/** The metrics of a serving process over HTTP, at `/metrics`, for Prometheus. Only read, and small; no TLS. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { fromSystemError } from '../base/errors.ts';
import { METRICS_TYPE, metricsText } from './metrics-text.ts';
import type { ServingStatistics } from './protocol.ts';

/** Who asks for more at once has to wait; who says nothing for so long has to go. */
const CONNECTIONS_MAX = 16;
const PATIENCE_MS = 10_000;

export interface MetricsAddress {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
}

export class MetricsServer {
  /** Where it listens. */
  readonly address: MetricsAddress;
  readonly #server: Server;

  private constructor(server: Server, address: MetricsAddress) {
    this.#server = server;
    this.address = address;
  }

  /** @throws VimgError when the address cannot be had */
  static async listen(address: MetricsAddress, statistics: () => ServingStatistics): Promise<MetricsServer> {
    const server = createServer((request, response) => answer(request, response, statistics));
    server.maxConnections = CONNECTIONS_MAX;
    server.headersTimeout = PATIENCE_MS;
    server.requestTimeout = PATIENCE_MS;
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(address.port, address.host, resolve);
      });
    } catch (error) {
      throw fromSystemError(error, { op: 'listen for metrics', path: `${address.host}:${address.port}` });
    }
    const bound = server.address();
    const port = bound !== null && typeof bound === 'object' ? bound.port : address.port;
    return new MetricsServer(server, { host: address.host, port });
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  statistics: () => ServingStatistics,
): void {
  if (request.url !== '/metrics') {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('the metrics are at /metrics\n');
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end();
  } else {
    response.writeHead(200, { 'content-type': METRICS_TYPE }).end(metricsText(statistics()));
  }
}
