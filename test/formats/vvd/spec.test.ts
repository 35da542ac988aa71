/** SPEC.md against the code: every layout's table row by row, every constant, and the examples byte by byte. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as attributes from '../../../formats/vvd/attributes.ts';
import { readHeader } from '../../../formats/vvd/header.ts';
import * as layouts from '../../../formats/vvd/layout.ts';
import * as undo from '../../../formats/vvd/undo-file.ts';
import { crc32c } from '../../../src/binary/crc32c.ts';
import { hexdump } from '../../../src/binary/hexdump.ts';
import type { Layout } from '../../../src/binary/layout.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { fixtureBytes, VVD_FIXTURES } from './fixtures.ts';

const SPEC = readFileSync(new URL('../../../formats/vvd/SPEC.md', import.meta.url), 'utf8');
const EXPORTS: Readonly<Record<string, unknown>> = { ...layouts, ...attributes, ...undo };

/** Every table of the page: its cells, the head first, without the line of dashes. */
function tables(): string[][][] {
  const found: string[][][] = [];
  let last = -2;
  for (const [number, line] of SPEC.split('\n').entries()) {
    if (!line.startsWith('|')) continue;
    const cells = line
      .slice(1, -1)
      .split(' | ')
      .map((cell) => cell.trim());
    if (number === last + 1) found[found.length - 1]?.push(cells);
    else found.push([cells]);
    last = number;
  }
  return found.map(([head, , ...rows]) => [head ?? [], ...rows]);
}

function isLayout(value: unknown): value is Layout<object> {
  return typeof value === 'object' && value !== null && 'rows' in value;
}

describe('SPEC.md', () => {
  it('has the table of every layout, row by row', () => {
    const byName = new Map<string, string[][]>();
    for (const [head = [], ...rows] of tables()) {
      if (head.slice(0, 4).join() === 'offset,size,field,type') byName.set(head[4] ?? '', rows);
    }
    const all = Object.values(EXPORTS).filter(isLayout);
    expect(all.length).toBeGreaterThanOrEqual(10);
    for (const { name, size, rows } of all) {
      const expected = rows.map((row) =>
        [row.offset, row.size, row.field, row.type, row.meaning].map(String),
      );
      expect({ name, rows: byName.get(`${name}, ${size} bytes`) }).toEqual({ name, rows: expected });
    }
    expect(byName.size).toBe(all.length);
  });

  it('has every constant', () => {
    const [, ...rows] = tables().find(([head]) => head?.join() === 'constant,value') ?? [];
    const constants = Object.entries({ ...layouts, ...attributes })
      .filter(
        ([, value]) => typeof value !== 'function' && !isLayout(value) && !(value instanceof Uint8Array),
      )
      .map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : String(value)]);
    expect(rows.toSorted()).toEqual(constants.toSorted());
  });

  it('shows examples that are in the fixture, byte by byte', async () => {
    const fixture = VVD_FIXTURES.find(({ name }) => name === 'kinds.vvd');
    const bytes = fixtureBytes(fixture as (typeof VVD_FIXTURES)[number]);
    const header = await readHeader(MemoryDevice.from(bytes));
    const table = new DataView(bytes.buffer, bytes.byteOffset).getUint32(header.directoryOffset + 64, true);
    const parts: readonly (readonly [number, number])[] = [
      [0, 128],
      [header.directoryOffset, 96],
      [table, 160],
      [header.spaceOffset, 112],
    ];
    const dumps = [...SPEC.matchAll(/```text\n(.*?)\n```/gs)].map(([, text]) => text);
    expect(dumps).toEqual(parts.map(([at, length]) => hexdump(bytes.subarray(at, at + length), at)));
  });

  it('names the checksum by its value for 123456789', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(SPEC).toContain('0xE3069283');
  });

  it('links to sections that exist', () => {
    const headings = [...SPEC.matchAll(/^#+ (.*)$/gm)].map(([, text = '']) =>
      text
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    );
    for (const [, anchor] of SPEC.matchAll(/\]\(#([^)]*)\)/g)) expect(headings).toContain(anchor);
  });
});
