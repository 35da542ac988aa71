/**
 * The statistics of a serving process in the text format that Prometheus reads ("Exposition formats", text format
 * 0.0.4). The figures are recorded elsewhere, quantiles included, so that nothing is left for a library to keep.
 */
import type { ServingStatistics } from './protocol.ts';

/** Media type of the text. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

interface Metric {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'summary';
  readonly help: string;
  readonly samples: readonly string[];
}

type Labels = Readonly<Record<string, string>>;

export function metricsText(statistics: ServingStatistics): string {
  return metricsOf(statistics)
    .map(
      ({ name, type, help, samples }) =>
        `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.join('')}`,
    )
    .join('');
}

function metricsOf({ exports, connections, 'uptime-seconds': uptime }: ServingStatistics): Metric[] {
  const inFlight: string[] = [];
  const requests: string[] = [];
  const errors: string[] = [];
  const atHand: string[] = [];
  const bytes: string[] = [];
  const latency: string[] = [];
  const hits: string[] = [];
  const misses: string[] = [];
  for (const { name, disk, 'in-flight': waiting, commands, caches } of exports) {
    const labels = { export: name, disk };
    for (const [cache, counts] of Object.entries(caches)) {
      hits.push(sample('vimg_cache_hits_total', { ...labels, cache }, counts.hits));
      misses.push(sample('vimg_cache_misses_total', { ...labels, cache }, counts.misses));
    }
    inFlight.push(sample('vimg_nbd_requests_in_flight', labels, waiting));
    for (const [command, recorded] of Object.entries(commands)) {
      const each = { ...labels, command };
      requests.push(sample('vimg_nbd_requests_total', each, recorded.requests));
      errors.push(sample('vimg_nbd_request_errors_total', each, recorded.errors));
      atHand.push(sample('vimg_nbd_requests_at_hand_total', each, recorded['at-hand']));
      bytes.push(sample('vimg_nbd_request_bytes_total', each, recorded.bytes));
      for (const [at, micros] of Object.entries(recorded['latency-us'])) {
        const quantile = at === 'max' ? '1' : String(Number((Number(at.slice(1)) / 100).toFixed(4)));
        latency.push(sample('vimg_nbd_request_seconds', { ...each, quantile }, micros / 1e6));
      }
      latency.push(sample('vimg_nbd_request_seconds_count', each, recorded.requests));
    }
  }
  return [
    metric('vimg_uptime_seconds', 'gauge', 'Since the process began.', [
      sample('vimg_uptime_seconds', {}, uptime),
    ]),
    metric('vimg_nbd_connections', 'gauge', 'Clients that are connected.', [
      sample('vimg_nbd_connections', {}, connections),
    ]),
    metric('vimg_nbd_requests_in_flight', 'gauge', 'Requests that are not answered yet.', inFlight),
    metric('vimg_nbd_requests_total', 'counter', 'Requests that were answered.', requests),
    metric('vimg_nbd_request_errors_total', 'counter', 'Requests that were answered with an error.', errors),
    metric('vimg_nbd_requests_at_hand_total', 'counter', 'Requests that waited for no storage.', atHand),
    metric('vimg_nbd_request_bytes_total', 'counter', 'Bytes that requests were about.', bytes),
    metric('vimg_nbd_request_seconds', 'summary', 'From the arrival of a request to its reply.', latency),
    metric('vimg_cache_hits_total', 'counter', 'What was in the cache when it was needed.', hits),
    metric('vimg_cache_misses_total', 'counter', 'What had to be read or decompressed.', misses),
  ];
}

function metric(name: string, type: Metric['type'], help: string, samples: readonly string[]): Metric {
  return { name, type, help, samples };
}

function sample(name: string, labels: Labels, value: number): string {
  const written = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`);
  return `${name}${written.length === 0 ? '' : `{${written.join(',')}}`} ${value}\n`;
}

/** "Comments, help text, and type information": backslash, quote and line feed are escaped in a label. */
function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
