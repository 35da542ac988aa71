/** SPEC.md says what the layouts say. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Layout } from '../../src/binary/layout.ts';
import * as layouts from '../../src/vims/layout.ts';

const SPEC = readFileSync(new URL('../../src/vims/SPEC.md', import.meta.url), 'utf8').replaceAll(/ +/g, ' ');

function isLayout(value: unknown): value is Layout<object> {
  return typeof value === 'object' && value !== null && 'rows' in value;
}

const all = (Object.values(layouts) as unknown[]).filter(isLayout);

describe('SPEC.md of volumes', () => {
  it.each(all.map((layout) => [layout.name, layout] as const))('has the table of the %s', (_, layout) => {
    expect(SPEC).toContain(`| offset | size | field | type | ${layout.name}, ${layout.size} bytes |`);
    for (const { offset, size, field, type, meaning } of layout.rows) {
      expect(SPEC).toContain(`| ${offset} | ${size} | ${field} | ${type} | ${meaning} |`);
    }
  });

  it('has the number of every type of block', () => {
    expect(all.length).toBeGreaterThanOrEqual(11);
    for (const [name, type] of Object.entries(layouts.BLOCK_TYPES)) {
      const words = name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
      const written =
        { counts: 'reference counts', tree: 'tree block', directory: 'directory block' }[name] ?? words;
      expect(SPEC).toContain(`| ${type} | ${written} |`);
    }
  });
});
