/**
 * Hostile and damaged headers: each gives a clear error, soon and in little memory, and no other file is opened.
 */
import { describe } from 'vitest';
import { type BadImage, FORMAT, type Patch, testBadImages } from './bad-image.ts';

const HEADER_CASES: readonly BadImage[] = [
  ...[0, 8].map((bits) => ({
    name: `cluster_bits ${bits}`,
    code: FORMAT,
    change: (i: Patch) => i.u32(20, bits),
  })),
  ...[22, 63].map((bits) => ({
    name: `cluster_bits ${bits}`,
    code: 'UNSUPPORTED',
    change: (i: Patch) => i.u32(20, bits),
  })),
  { name: 'cluster_bits 2^32 − 1', code: FORMAT, change: (i) => i.u32(20, 0xffff_ffff) },
  ...[0, 72, 100, 105, 2 ** 31 - 1, 2 ** 32 - 1].map((length) => ({
    name: `header_length ${length}`,
    code: FORMAT,
    says: /header_length/,
    change: (i: Patch) => i.u32(100, length),
  })),
  ...[0, 1, 4, 2 ** 32 - 1].map((version) => ({
    name: `version ${version}`,
    code: 'UNSUPPORTED',
    says: /version/,
    change: (i: Patch) => i.u32(4, version),
  })),
  {
    name: 'an unknown incompatible bit',
    code: 'UNSUPPORTED',
    says: /bit 63/,
    change: (i) => i.u64(72, 1n << 63n),
  },
  {
    name: 'an unknown incompatible bit with a name',
    base: 'unknown-feature.qcow2',
    code: 'UNSUPPORTED',
    says: /time travel \(bit 5\)/,
    change: () => undefined,
  },
  {
    name: 'an unknown bit and nonsense for extensions',
    code: 'UNSUPPORTED',
    says: /bit 40/,
    change: (i) => {
      i.u64(72, 1n << 40n);
      i.u32(112, 0xe2792aca);
      i.u32(116, 0xffff_ffff);
    },
  },
  {
    name: 'an extension longer than the file',
    code: FORMAT,
    says: /passes the end/,
    change: (i) => {
      i.u32(112, 0x6803f857);
      i.u32(116, 0x7fff_ffff);
    },
  },
  {
    name: 'an extension twice',
    code: FORMAT,
    says: /twice/,
    change: (i) => {
      i.bytes.fill(0, 112, 400);
      for (const at of [112, 120]) i.u32(at, 0xe2792aca);
    },
  },
  { name: 'refcount_order 7', code: FORMAT, change: (i) => i.u32(96, 7) },
  { name: 'refcount_order 2^32 − 1', code: FORMAT, change: (i) => i.u32(96, 0xffff_ffff) },
  { name: 'LUKS', code: 'UNSUPPORTED', says: /LUKS/, change: (i) => i.u32(32, 2) },
  { name: 'AES', base: 'encrypted-aes.qcow2', code: 'UNSUPPORTED', says: /AES/, change: () => undefined },
  { name: 'an unknown encryption', code: 'UNSUPPORTED', change: (i) => i.u32(32, 77) },
  { name: 'a compression type without its bit', code: FORMAT, change: (i) => i.bytes.fill(1, 104, 105) },
  { name: 'a compression bit without its type', code: FORMAT, change: (i) => i.u64(72, 8n) },
  {
    name: 'an unknown compression type',
    code: 'UNSUPPORTED',
    change: (i) => {
      i.u64(72, 8n);
      i.bytes.fill(9, 104, 105);
    },
  },
  { name: 'extended L2 entries with small clusters', code: FORMAT, change: (i) => i.u64(72, 16n) },
  { name: 'a raw data file bit without a data file', code: FORMAT, change: (i) => i.u64(88, 2n) },
  { name: 'a bitmaps bit without the extension', code: FORMAT, change: (i) => i.u64(88, 1n) },
  {
    name: 'a data file without a name',
    code: 'UNSUPPORTED',
    says: /does not name/,
    change: (i) => i.u64(72, 4n),
  },
  { name: 'virtual size 2^63 − 1', code: 'LIMIT', change: (i) => i.u64(24, (1n << 63n) - 1n) },
  { name: 'virtual size 2^64 − 1', code: 'LIMIT', change: (i) => i.u64(24, (1n << 64n) - 1n) },
  {
    name: 'a few bytes claiming a petabyte',
    code: FORMAT,
    says: /too few/,
    change: (i) => i.u64(24, 1n << 50n),
  },
];

const BACKING = 'backing-relative.qcow2';
const NAME_CASES: readonly BadImage[] = [
  {
    name: 'a backing name of 2^32 − 1 bytes',
    base: BACKING,
    code: FORMAT,
    change: (i) => i.u32(16, 0xffff_ffff),
  },
  { name: 'a backing name of 1024 bytes', base: BACKING, code: FORMAT, change: (i) => i.u32(16, 1024) },
  {
    name: 'a backing name past the first cluster',
    base: BACKING,
    code: FORMAT,
    change: (i) => i.u64(8, 4090n),
  },
  { name: 'a backing name past the file', base: BACKING, code: FORMAT, change: (i) => i.u64(8, 1n << 62n) },
  { name: 'a backing name inside the header', base: BACKING, code: FORMAT, change: (i) => i.u64(8, 8n) },
  {
    name: 'a backing name with NUL',
    base: BACKING,
    code: FORMAT,
    says: /zero byte/,
    change: (i) => i.bytes.fill(0, Number(i.view.getBigUint64(8)), Number(i.view.getBigUint64(8)) + 1),
  },
  {
    name: 'a backing name that is not UTF-8',
    base: BACKING,
    code: FORMAT,
    change: (i) => i.bytes.fill(0xff, Number(i.view.getBigUint64(8)), Number(i.view.getBigUint64(8)) + 1),
  },
];

/** Offsets that no table can have, with a file of `size` bytes. */
const BAD_OFFSETS: readonly (readonly [string, (size: number) => bigint])[] = [
  ['0', () => 0n],
  ['unaligned', () => 12289n],
  ['at the end', (size) => BigInt(Math.ceil(size / 4096) * 4096)],
  ['past 2^53', () => 1n << 54n],
  ['past 2^56', () => 1n << 57n],
  ['2^64 − 4096', () => (1n << 64n) - 4096n],
];

const TABLE_CASES: readonly BadImage[] = [
  ...BAD_OFFSETS.flatMap(([name, offset]) => [
    { name: `L1 table ${name}`, code: FORMAT, change: (i: Patch) => i.u64(40, offset(i.bytes.length)) },
    { name: `refcount table ${name}`, code: FORMAT, change: (i: Patch) => i.u64(48, offset(i.bytes.length)) },
    {
      name: `snapshot table ${name}`,
      base: 'snapshots.qcow2',
      code: FORMAT,
      change: (i: Patch) => i.u64(64, offset(i.bytes.length)),
    },
  ]),
  {
    name: 'L1 table in the refcount table',
    code: FORMAT,
    says: /overlaps/,
    change: (i) => i.u64(40, i.view.getBigUint64(48)),
  },
  { name: 'L1 size 0', code: FORMAT, change: (i) => i.u32(36, 0) },
  { name: 'L1 size 0 with snapshots', base: 'snapshots.qcow2', code: FORMAT, change: (i) => i.u32(36, 0) },
  ...[2 ** 31, 2 ** 32 - 1].map((size) => ({
    name: `L1 size ${size}`,
    code: 'LIMIT',
    change: (i: Patch) => i.u32(36, size),
  })),
  { name: 'L1 table past the end', code: FORMAT, change: (i) => i.u32(36, 2 ** 20) },
  { name: 'a refcount table of no cluster', code: FORMAT, change: (i) => i.u32(56, 0) },
  { name: 'a refcount table of 2^32 − 1 clusters', code: 'LIMIT', change: (i) => i.u32(56, 0xffff_ffff) },
  { name: 'a refcount table over the L1 table', code: FORMAT, change: (i) => i.u32(56, 4) },
  {
    name: '2^32 − 1 snapshots',
    base: 'snapshots.qcow2',
    code: 'LIMIT',
    change: (i) => i.u32(60, 0xffff_ffff),
  },
  { name: '900 snapshots', base: 'snapshots.qcow2', code: [FORMAT, 'LIMIT'], change: (i) => i.u32(60, 900) },
  ...(
    [
      ['an ID', 12, FORMAT],
      ['a name', 14, FORMAT],
    ] as const
  ).map(([what, at, code]) => ({
    name: `a snapshot with ${what} past the end`,
    base: 'snapshots.qcow2',
    code,
    change: (i: Patch) => i.view.setUint16(Number(i.view.getBigUint64(64)) + at, 0xffff),
  })),
  {
    name: 'a snapshot with extra data of 2^32 − 1 bytes',
    base: 'snapshots.qcow2',
    code: FORMAT,
    change: (i) => i.u32(Number(i.view.getBigUint64(64)) + 36, 0xffff_ffff),
  },
  {
    name: 'a snapshot of a disk of 2^63 bytes',
    base: 'snapshots.qcow2',
    code: 'LIMIT',
    change: (i) => i.u64(Number(i.view.getBigUint64(64)) + 48, 1n << 63n),
  },
  {
    name: 'a snapshot table over the L1 table',
    base: 'snapshots.qcow2',
    code: FORMAT,
    change: (i) => i.u64(64, 12288n),
  },
];

/** Where the bitmaps extension of the fixture has its data. */
const BITMAPS_AT = 112 + 8;
const BITMAPS = 'bitmaps.qcow2';
const BITMAP_CASES: readonly BadImage[] = [
  { name: 'a count of 0', base: BITMAPS, code: FORMAT, change: (i) => i.u32(BITMAPS_AT, 0) },
  {
    name: 'a count of 2^32 − 1',
    base: BITMAPS,
    code: 'LIMIT',
    change: (i) => i.u32(BITMAPS_AT, 0xffff_ffff),
  },
  { name: 'a count that does not fit', base: BITMAPS, code: FORMAT, change: (i) => i.u32(BITMAPS_AT, 3) },
  { name: 'reserved bytes', base: BITMAPS, code: FORMAT, change: (i) => i.u32(BITMAPS_AT + 4, 1) },
  {
    name: 'a directory of 2^63 bytes',
    base: BITMAPS,
    code: FORMAT,
    change: (i) => i.u64(BITMAPS_AT + 8, 1n << 63n),
  },
  {
    name: 'a directory of 1 GiB',
    base: BITMAPS,
    code: 'LIMIT',
    change: (i) => i.u64(BITMAPS_AT + 8, 1n << 30n),
  },
  {
    name: 'a directory of 1 MiB',
    base: BITMAPS,
    code: FORMAT,
    change: (i) => i.u64(BITMAPS_AT + 8, 1n << 20n),
  },
  {
    name: 'a directory past 2^56',
    base: BITMAPS,
    code: FORMAT,
    change: (i) => i.u64(BITMAPS_AT + 16, 1n << 57n),
  },
  ...(
    [
      ['a name of no bytes', (i: Patch, at: number) => i.view.setUint16(at + 18, 0)],
      ['a name past the end', (i: Patch, at: number) => i.view.setUint16(at + 18, 1000)],
      ['an unknown type', (i: Patch, at: number) => i.view.setUint8(at + 16, 9)],
      ['a granularity of 2^255', (i: Patch, at: number) => i.view.setUint8(at + 17, 255)],
      ['extra data of 2^32 − 1 bytes', (i: Patch, at: number) => i.u32(at + 20, 0xffff_ffff)],
    ] as const
  ).map(([name, change]) => ({
    name,
    base: BITMAPS,
    code: FORMAT,
    by: 'info' as const,
    change: (i: Patch) => change(i, Number(i.view.getBigUint64(BITMAPS_AT + 16))),
  })),
];

const ALL: readonly (readonly [string, readonly BadImage[]])[] = [
  ['header', HEADER_CASES],
  ['names', NAME_CASES],
  ['tables', TABLE_CASES],
  ['bitmaps', BITMAP_CASES],
];

describe.each(ALL)('%s', (_, cases) => testBadImages(cases));
