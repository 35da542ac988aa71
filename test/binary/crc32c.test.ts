import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c, crc32cBulk } from '../../src/binary/crc32c.ts';

/** RFC 3720 (iSCSI), appendix B.4; there the bytes of the CRC are listed least significant first. */
const ISCSI_READ_COMMAND = Buffer.from(
  '01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000'.replaceAll(
    ' ',
    '',
  ),
  'hex',
);

const vectors: readonly (readonly [string, Uint8Array, number])[] = [
  ['32 bytes of zeroes', new Uint8Array(32), 0x8a9136aa],
  ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ['32 bytes counting up', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ['32 bytes counting down', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ['an iSCSI read command', ISCSI_READ_COMMAND, 0xd9963a56],
  ['123456789, the check value of the CRC catalogue', Buffer.from('123456789'), 0xe3069283],
  ['nothing', new Uint8Array(0), 0],
];

describe('CRC32C', () => {
  it.each(vectors)('of %s', (_, data, expected) => {
    expect(crc32c(data)).toBe(expected);
    expect(crc32cBulk(data)).toBe(expected);
  });

  it('is the same by both implementations, for every length and alignment', async () => {
    await fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), fc.nat(16), (bytes, skip) => {
        const data = bytes.subarray(Math.min(skip, bytes.length));
        expect(crc32cBulk(data)).toBe(crc32c(data));
      }),
    );
  });

  it('can be continued', () => {
    const data = Buffer.from('continued in two pieces');
    expect(crc32c(data.subarray(9), crc32c(data.subarray(0, 9)))).toBe(crc32c(data));
  });

  it('sees every single flipped bit', () => {
    const data = Uint8Array.from({ length: 64 }, (_, i) => i * 7);
    const before = crc32c(data);
    for (let bit = 0; bit < data.length * 8; bit++) {
      const flipped = data.slice();
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(crc32c(flipped)).not.toBe(before);
    }
  });
});
