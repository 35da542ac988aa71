/** SPEC.md says what the layouts say. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { QCOW2_LAYOUTS } from '../../../formats/qcow2/layout.ts';
import type { Layout } from '../../../src/binary/layout.ts';

/** The text with one blank for each run of them: tables are padded for reading. */
const SPEC = readFileSync(new URL('../../../formats/qcow2/SPEC.md', import.meta.url), 'utf8')
  .replaceAll(/ +/g, ' ')
  .replaceAll(/-{3,}/g, '---');

function table(layout: Layout<object>): string {
  const rows = layout.rows.map(
    (row) => `| ${row.offset} | ${row.size} | ${row.field} | ${row.type} | ${row.meaning} |`,
  );
  const title = `**${layout.name}** (${layout.size} bytes)`;
  return [
    title,
    '',
    '| offset | size | field | type | meaning |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
}

test.each(QCOW2_LAYOUTS.map((layout) => [layout.name, layout] as const))('the table of %s', (_, layout) => {
  expect(SPEC).toContain(table(layout));
});
