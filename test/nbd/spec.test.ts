/** SPEC.md says what the layouts say. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Layout } from '../../src/binary/layout.ts';
import {
  EXTENDED_REPLY,
  EXTENDED_REQUEST,
  OPTION_HEADER,
  OPTION_REPLY,
  REQUEST,
  SERVER_GREETING,
  SIMPLE_REPLY,
  STRUCTURED_REPLY,
} from '../../src/nbd/protocol.ts';
import { DEFAULT_LIMITS } from '../../src/nbd/server-limits.ts';

/** The text with one blank for each run of them: tables are padded for reading. */
const SPEC = readFileSync(new URL('../../src/nbd/SPEC.md', import.meta.url), 'utf8').replaceAll(/ +/g, ' ');

const LAYOUTS: readonly Layout<object>[] = [
  SERVER_GREETING,
  OPTION_HEADER,
  OPTION_REPLY,
  REQUEST,
  SIMPLE_REPLY,
  STRUCTURED_REPLY,
  EXTENDED_REQUEST,
  EXTENDED_REPLY,
];

test.each(LAYOUTS.map((each) => [each.name, each] as const))('the table of %s', (name, layout) => {
  expect(SPEC).toContain(`**${name}** (${layout.size} bytes)`);
  for (const row of layout.rows) {
    expect(SPEC).toContain(`| ${row.offset} | ${row.size} | ${row.field} | ${row.type} | ${row.meaning} |`);
  }
});

test('the limits', () => {
  const { connections, requests, bufferedBytes, handshakeMs, shutdownMs } = DEFAULT_LIMITS;
  const values = [connections, requests, `${bufferedBytes / 1024 ** 2} MiB`, `${handshakeMs / 1000} s`];
  for (const value of [...values, `${shutdownMs / 1000} s`]) expect(SPEC).toContain(` | ${value} | `);
});
