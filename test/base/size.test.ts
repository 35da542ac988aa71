import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatSize, isPowerOfTwo, parseSize, roundDown, roundUp } from '../../src/base/size.ts';
import { requireTool } from '../reference-tools.ts';

const accepted: readonly (readonly [string, number])[] = [
  ['0', 0],
  ['512', 512],
  ['010', 10],
  ['0x10', 16],
  ['0X1b', 27],
  ['1b', 1],
  ['1k', 1024],
  ['1K', 1024],
  ['1.5k', 1536],
  ['0.1k', 102],
  ['1m', 1024 ** 2],
  ['10G', 10 * 1024 ** 3],
  ['1.5T', 1.5 * 1024 ** 4],
  ['2p', 2 * 1024 ** 5],
  ['8191T', 8191 * 1024 ** 4],
];

const refused = [
  '-1',
  '-1k',
  '1e3',
  '1KB',
  '10GiB',
  '0x',
  '',
  ' ',
  'k',
  'G1',
  '1,5G',
  '1.5',
  '.5k',
  '1_000',
  '١k',
  '1k\n',
  'NaN',
];

describe('parseSize', () => {
  it.each(accepted)('reads %s as %d', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(refused)('refuses %j and says what a size looks like', (text) => {
    expect(() => parseSize(text)).toThrow(
      expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining('suffix') }),
    );
  });

  it.each([
    '9223372036854775808',
    '9223372036854775807',
    '9007199254740992',
    '8E',
    '0x20000000000000',
    `1${'0'.repeat(400)}`,
  ])('says that %s is too large', (text) => {
    expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'LIMIT' }));
  });

  it('takes the largest offset there is, exactly', () => {
    expect(parseSize('9007199254740991')).toBe(2 ** 53 - 1);
  });

  it('counts a bare number in the unit given', () => {
    expect(parseSize('3', 1024)).toBe(3072);
    expect(parseSize('3b', 1024)).toBe(3);
    expect(parseSize('3M', 1024)).toBe(3 * 1024 ** 2);
  });

  it('reads back every whole number of bytes', async () => {
    await fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseSize(String(bytes)) === bytes));
  });

  it.skipIf(requireTool('qemu-img'))('agrees with qemu-img', () => {
    const measure = (size: string): number | undefined => {
      const args = ['measure', '--output=json', '-O', 'raw', `--size=${size}`];
      const { status, stdout } = spawnSync('qemu-img', args, { encoding: 'utf8' });
      return status === 0 ? JSON.parse(stdout).required : undefined;
    };
    for (const [text, bytes] of accepted) expect([text, measure(text)]).toEqual([text, roundUp(bytes, 512)]);
    for (const text of ['-1', '1e3', '1KB', '10GiB', '0x', '', '1.5', '.5k']) {
      expect([text, measure(text)]).toEqual([text, undefined]);
    }
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0 B'],
    [512, '512 B'],
    [999, '999 B'],
    [1000, '0.977 KiB'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [1030144, '0.982 MiB'],
    [1.125 * 1024 ** 2, '1.12 MiB'],
    [1.375 * 1024 ** 2, '1.38 MiB'],
    [128.5 * 1024, '128 KiB'],
    [99.96 * 1024 ** 2, '100 MiB'],
    [123457024, '118 MiB'],
    [10485760000, '9.77 GiB'],
    [10 * 1024 ** 3, '10 GiB'],
    [2 ** 53 - 1, '8 PiB'],
    [1234.5, '1.21 KiB'],
  ])('prints %d as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });

  it('says 1000 KiB where C prints 1e+03', () => {
    expect(formatSize(999.5 * 1024)).toBe('1000 KiB');
  });

  it.skipIf(requireTool('qemu-img'))('prints as qemu-img does', () => {
    const path = join(tmpdir(), `vimg-format-size-${process.pid}`);
    const sizes = [
      512,
      1024,
      1536,
      1030144,
      1179648,
      1441792,
      131584,
      10485760000,
      123457024,
      2 ** 40,
      1.5 * 2 ** 41,
    ];
    try {
      for (const bytes of sizes) {
        execFileSync('truncate', ['-s', String(bytes), path]);
        const info = execFileSync('qemu-img', ['info', '-f', 'raw', path], { encoding: 'utf8' });
        expect(info).toContain(`virtual size: ${formatSize(bytes)} (${bytes} bytes)`);
      }
    } finally {
      rmSync(path, { force: true });
    }
  });
});

describe('rounding', () => {
  it('is exact up to the largest offsets', () => {
    expect(roundUp(2 ** 52 + 1, 512)).toBe(2 ** 52 + 512);
    expect(roundDown(2 ** 53 - 1, 4096)).toBe(2 ** 53 - 4096);
    expect([roundUp(0, 512), roundUp(512, 512), roundUp(1, 512), roundDown(511, 512)]).toEqual([
      0, 512, 512, 0,
    ]);
  });

  it('knows powers of two', () => {
    expect([1, 2, 4096, 2 ** 40].every(isPowerOfTwo)).toBe(true);
    expect([0, -2, 3, 0.5, 2 ** 40 + 1].some(isPowerOfTwo)).toBe(false);
  });
});
