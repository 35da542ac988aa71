/** UUIDs and hex dumps: the text forms of bytes. */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { hexdump } from '../../src/binary/hexdump.ts';
import { formatUuid, NIL_UUID, newUuid, parseUuid } from '../../src/binary/uuid.ts';

describe('UUID', () => {
  it('is version 4, variant 1 (RFC 4122, section 4.4), and new each time', () => {
    const uuids = Array.from({ length: 50 }, () => newUuid());
    expect(new Set(uuids).size).toBe(50);
    for (const uuid of uuids)
      expect(uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it('is reproducible from a seed', () => {
    expect(newUuid(new SeededRandom(1).bytes)).toBe(newUuid(new SeededRandom(1).bytes));
  });

  it('goes through text and back, in either case', () => {
    const text = '6ba7b810-9dad-11d1-80b4-00c04fd430c8';
    expect(formatUuid(parseUuid(text))).toBe(text);
    expect(formatUuid(parseUuid(text.toUpperCase()))).toBe(text);
    expect(formatUuid(new Uint8Array(16))).toBe(NIL_UUID);
    const inside = new Uint8Array(20);
    inside.set(parseUuid(text), 3);
    expect(formatUuid(inside.subarray(3, 19))).toBe(text);
  });

  it.each([
    '',
    '6ba7b810',
    `${NIL_UUID}0`,
    `{${NIL_UUID}}`,
    NIL_UUID.replaceAll('-', ''),
    NIL_UUID.replace('0', 'g'),
  ])('refuses %j', (text) => {
    expect(() => parseUuid(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});

describe('hexdump', () => {
  it('shows offset, bytes and printable text', () => {
    expect(hexdump(Buffer.from('QFI\xfb, then \0', 'latin1'), 0x10000)).toBe(
      '0000010000  51 46 49 fb 2c 20 74 68 65 6e 20 00              QFI., then .',
    );
  });

  it('folds equal lines, and always shows the last', () => {
    const bytes = new Uint8Array(16 * 5 + 3);
    bytes[16 * 4] = 0x41;
    expect(
      hexdump(bytes)
        .split('\n')
        .map((line) => line.slice(0, 14).trim()),
    ).toEqual(['0000000000  00', '*', '0000000040  41', '0000000050  00']);
    expect(
      hexdump(new Uint8Array(48))
        .split('\n')
        .map((line) => line.slice(0, 10)),
    ).toEqual(['0000000000', '*', '0000000020']);
  });

  it('shows nothing of nothing', () => {
    expect(hexdump(new Uint8Array(0))).toBe('');
  });
});
