import { expect, it } from 'vitest';
import { DiskCaches } from '../../src/image/cache-statistics.ts';
import { RequestStatistics } from '../../src/nbd/request-statistics.ts';
import { MetricsServer } from '../../src/serving/metrics-server.ts';
import { metricsText } from '../../src/serving/metrics-text.ts';
import type { ServingStatistics } from '../../src/serving/protocol.ts';

/** A line of the text format: a comment, or a name, labels whose values are quoted, and a number. */
const LINE =
  /^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="([^"\\\n]|\\["\\n])*"(,\w+="([^"\\\n]|\\["\\n])*")*\})? [0-9.e+-]+)$/;

function sample(): ServingStatistics {
  const statistics = new RequestStatistics();
  statistics.started();
  statistics.finished(0, 4096, 80, false, true);
  statistics.started();
  statistics.finished(1, 512, 3000, true, false);
  statistics.started();
  const caches = new DiskCaches();
  caches.data.hits = 17;
  caches.decompressed.misses = 3;
  const disk = 'a "quoted"\\disk\n.vvd';
  return {
    pid: 1,
    'uptime-seconds': 5,
    connections: 2,
    exports: [{ name: '', disk, ...statistics.toJSON(), caches: caches.toJSON() }],
  };
}

it('every line is of the text format, and every figure is there', () => {
  const text = metricsText(sample());
  expect(text.endsWith('\n')).toBe(true);
  for (const line of text.trimEnd().split('\n')) expect(line).toMatch(LINE);
  const labels = 'export="",disk="a \\"quoted\\"\\\\disk\\n.vvd"';
  expect(text).toContain(`vimg_nbd_requests_in_flight{${labels}} 1\n`);
  expect(text).toContain(`vimg_nbd_request_bytes_total{${labels},command="read"} 4096\n`);
  expect(text).toContain(`vimg_nbd_request_errors_total{${labels},command="write"} 1\n`);
  expect(text).toContain(`vimg_nbd_request_seconds{${labels},command="read",quantile="0.999"} 0.00008\n`);
  expect(text).toContain(`vimg_nbd_request_seconds_count{${labels},command="write"} 1\n`);
  expect(text).toContain(`vimg_cache_hits_total{${labels},cache="data"} 17\n`);
  expect(text).toContain(`vimg_cache_misses_total{${labels},cache="decompressed"} 3\n`);
});

it('is served at /metrics, read-only, and nothing else is', async () => {
  const server = await MetricsServer.listen({ host: '127.0.0.1', port: 0 }, sample);
  try {
    const at = `http://127.0.0.1:${server.address.port}`;
    const response = await fetch(`${at}/metrics`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toContain('version=0.0.4');
    expect(await response.text()).toBe(metricsText(sample()));
    expect((await fetch(`${at}/metrics`, { method: 'POST' })).status).toBe(405);
    expect((await fetch(`${at}/`)).status).toBe(404);
    await expect(MetricsServer.listen(server.address, sample)).rejects.toMatchObject({ name: 'VimgError' });
  } finally {
    await server.close();
  }
});
