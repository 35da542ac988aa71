import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as types from '../../src/binary/field-types.ts';
import { type Fields, layout } from '../../src/binary/layout.ts';

interface Sample {
  magic: string;
  version: number;
  flags: bigint;
  offset: number;
  id: string;
  rest: Uint8Array;
}

const FIELDS: Fields<Sample> = {
  magic: [0, types.ascii(4), 'says what this is'],
  version: [4, types.u32be, 'always 1'],
  flags: [8, types.bits64le, 'unknown bits are kept'],
  offset: [16, types.u64le, 'bytes'],
  id: [24, types.uuid, 'of the disk'],
  rest: [40, types.bytes(3), 'whatever'],
};

const VALUE: Sample = {
  magic: 'SMPL',
  version: 0x01020304,
  flags: 0xfedc_ba98_7654_3210n,
  offset: 2 ** 53 - 1,
  id: '00112233-4455-6677-8899-aabbccddeeff',
  rest: Uint8Array.of(1, 2, 3),
};

describe('a declared layout', () => {
  const sample = layout('sample', 43, FIELDS);

  it('puts each field where it says', () => {
    expect(Buffer.from(sample.encode(VALUE)).toString('hex')).toBe(
      `${Buffer.from('SMPL').toString('hex')}01020304${'1032547698badcfe'}ffffffffffff1f00${'00112233445566778899aabbccddeeff'}010203`,
    );
  });

  it('reads what it wrote, also in the middle of a buffer, and touches nothing around', () => {
    const buffer = new Uint8Array(60).fill(0xcc);
    sample.encode(VALUE, buffer, 7);
    expect(sample.decode(buffer, 7)).toEqual(VALUE);
    expect(buffer.subarray(0, 7).every((byte) => byte === 0xcc)).toBe(true);
    expect(buffer.subarray(50).every((byte) => byte === 0xcc)).toBe(true);
  });

  it('lists its rows for the specification', () => {
    expect(sample.rows[1]).toEqual({
      offset: 4,
      size: 4,
      field: 'version',
      type: 'u32be',
      meaning: 'always 1',
    });
    expect(sample.rows.map((row) => row.type)).toEqual([
      'ascii[4]',
      'u32be',
      'u64',
      'u64',
      'uuid',
      'bytes[3]',
    ]);
  });

  it('says how much is there when the bytes end early', () => {
    expect(() => sample.decode(new Uint8Array(42))).toThrow(
      expect.objectContaining({ code: 'INVALID_FORMAT', message: 'sample is cut short: 42 of 43 bytes' }),
    );
  });

  it('checks itself: a gap, an overlap, a wrong size, fields out of order', () => {
    const u32 = types.u32le;
    expect(() => layout('l', 12, { a: [0, u32, ''], b: [8, u32, ''] })).toThrow(
      new TypeError('layout l: gap before b: it starts at 8, not 4'),
    );
    expect(() => layout('l', 6, { a: [0, u32, ''], b: [2, u32, ''] })).toThrow(
      new TypeError('layout l: overlap before b: it starts at 2, not 4'),
    );
    expect(() => layout('l', 12, { a: [0, u32, ''], b: [4, u32, ''] })).toThrow(
      new TypeError('layout l: fields end at 8, the size is 12'),
    );
    expect(() => layout('l', 8, { b: [4, u32, ''], a: [0, u32, ''] })).toThrow(/gap before b/);
  });
});

describe('field types', () => {
  const numbers = [
    [types.u8, 1, false],
    [types.u16le, 2, true],
    [types.u16be, 2, false],
    [types.u32le, 4, true],
    [types.u32be, 4, false],
    [types.u64le, 8, true],
    [types.u64be, 8, false],
  ] as const;

  it.each(numbers.map(([type, size, little]) => [type.name, type, size, little] as const))(
    '%s holds every value, in its byte order',
    async (_, type, size, little) => {
      const max = Math.min(2 ** (8 * size) - 1, Number.MAX_SAFE_INTEGER);
      await fc.assert(
        fc.property(fc.integer({ min: 0, max }), (value) => {
          const view = new DataView(new ArrayBuffer(size + 2));
          type.set(view, 1, value);
          const bytes = Buffer.from(view.buffer, 1, size);
          if (little) bytes.reverse();
          expect(BigInt(`0x${bytes.toString('hex')}`)).toBe(BigInt(value));
          if (little) bytes.reverse();
          expect(type.get(view, 1)).toBe(value);
        }),
      );
    },
  );

  it('refuses a 64-bit number that JavaScript cannot hold exactly', () => {
    for (const [type, little] of [
      [types.u64le, true],
      [types.u64be, false],
    ] as const) {
      const view = new DataView(new ArrayBuffer(8));
      for (const value of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
        view.setBigUint64(0, value, little);
        expect(() => type.get(view, 0)).toThrow(
          expect.objectContaining({
            code: 'INVALID_FORMAT',
            message: expect.stringContaining(value.toString(16)),
          }),
        );
      }
    }
  });

  it('keeps 64 opaque bits as they are, in both orders', () => {
    for (const type of [types.bits64le, types.bits64be]) {
      const view = new DataView(new ArrayBuffer(8));
      type.set(view, 0, 2n ** 64n - 2n);
      expect(type.get(view, 0)).toBe(2n ** 64n - 2n);
    }
  });

  it('pads text and bytes with zeroes over what was there', () => {
    const view = new DataView(new Uint8Array(8).fill(0xff).buffer);
    types.ascii(4).set(view, 0, 'ab');
    types.bytes(4).set(view, 4, Uint8Array.of(9));
    expect(Buffer.from(view.buffer).toString('hex')).toBe('6162000009000000');
    const copy = types.bytes(4).get(view, 4);
    copy[0] = 1;
    expect(types.bytes(4).get(view, 4)[0]).toBe(9);
  });
});
