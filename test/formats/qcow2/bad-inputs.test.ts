/**
 * Hostile and damaged images: each gives a clear error, soon and in little memory, and no other file is opened.
 *
 * Every case is a sound fixture with some bytes changed. A case that should be found on opening is tried with
 * opening alone; one that lies deeper with reading everything, or with a check.
 */
import { deflateRawSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { fixtureBytes } from '../../../fixtures/unpack.ts';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { isVimgError, type VimgError } from '../../../src/base/errors.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { Location } from '../../../src/image/layer.ts';
import { noGate, readWhole } from './layer-reader.ts';

/** One image: changed by `change`, refused with `code` by `by`; the message says `says`. */
interface Case {
  readonly name: string;
  readonly base?: string;
  /** Changes the image in place, or returns another one. */
  readonly change: (image: Patch) => unknown;
  readonly code: string | readonly string[];
  readonly by?: 'open' | 'read' | 'info' | 'check';
  readonly says?: RegExp;
}

/** An image that is being spoilt. The fixtures of 4 KiB clusters all have L1 at 12288 and their first L2 at 16384. */
class Patch {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }

  u32(offset: number, value: number): void {
    this.view.setUint32(offset, value);
  }

  u64(offset: number, value: bigint): void {
    this.view.setBigUint64(offset, value);
  }

  get l1Offset(): number {
    return Number(this.view.getBigUint64(40));
  }

  get l2Offset(): number {
    return Number(this.view.getBigUint64(this.l1Offset) & 0x00ff_ffff_ffff_fe00n);
  }
}

const PLAIN = 'lazy-refcounts.qcow2';
const COPIED = 1n << 63n;
const FORMAT = 'INVALID_FORMAT';

const HEADER_CASES: readonly Case[] = [
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
const NAME_CASES: readonly Case[] = [
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

const TABLE_CASES: readonly Case[] = [
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
const BITMAP_CASES: readonly Case[] = [
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

const DATA = 'CORRUPT';
/** The first entry in use of the fixture's L2 table: guest offset 4096. */
const ENTRY = 8;
const entryCase = (name: string, entry: bigint, says?: RegExp): Case => ({
  name,
  code: DATA,
  by: 'read',
  change: (i) => i.u64(i.l2Offset + ENTRY, entry),
  ...(says === undefined ? {} : { says }),
});

const MAPPING_CASES: readonly Case[] = [
  {
    name: 'an L2 table off its boundary',
    code: DATA,
    by: 'read',
    change: (i) => i.u64(i.l1Offset, COPIED | 0x4200n),
  },
  {
    name: 'an L2 table past the end',
    code: DATA,
    by: 'read',
    change: (i) => i.u64(i.l1Offset, COPIED | 0x4000_0000n),
  },
  {
    name: 'an L2 table past 2^56',
    code: DATA,
    by: 'read',
    change: (i) => i.u64(i.l1Offset, COPIED | (1n << 58n)),
  },
  {
    name: 'an L2 table at 2^56 − 4096',
    code: DATA,
    by: 'read',
    change: (i) => i.u64(i.l1Offset, COPIED | ((1n << 56n) - 4096n)),
  },
  {
    name: 'an L2 table in the L1 table',
    code: DATA,
    by: 'read',
    change: (i) => i.u64(i.l1Offset, COPIED | 12288n),
  },
  {
    name: 'an L2 table in the refcount table',
    code: DATA,
    by: 'read',
    change: (i) => i.u64(i.l1Offset, COPIED | 4096n),
  },
  entryCase('a data cluster at 0', COPIED, /offset 0/),
  entryCase('a data cluster off its boundary', COPIED | 0x5200n, /boundary/),
  entryCase('a data cluster past the end', COPIED | 0x10_0000n, /past the end/),
  entryCase('a data cluster past 2^56', COPIED | (1n << 57n), /reserved/),
  entryCase('a data cluster at 2^56 − 4096', COPIED | ((1n << 56n) - 4096n), /past the end/),
  entryCase('a data cluster in the L1 table', COPIED | 12288n, /the L1 table/),
  entryCase('a data cluster in the refcount table', COPIED | 4096n, /the refcount table/),
  entryCase('reserved low bits', COPIED | 0x5002n, /reserved/),
  entryCase('a compressed cluster past the end', (1n << 62n) | 0x1000_0000n, /past the end/),
  entryCase('a compressed cluster at 2^56', (1n << 62n) | (1n << 56n), /past the end/),
  entryCase('a compressed cluster in the header', (1n << 62n) | 8n, /the header/),
  entryCase('a compressed cluster of other data', (1n << 62n) | 0x5000n, /inflate|holds/),
  {
    name: 'a zero cluster in version 2',
    base: 'v2-plain.qcow2',
    code: DATA,
    by: 'read',
    says: /version 2/,
    change: (i) => i.u64(i.l2Offset + ENTRY, 1n),
  },
  {
    name: 'a compressed cluster cut short',
    base: 'compressed-zlib.qcow2',
    code: DATA,
    by: 'read',
    change: (i) => i.bytes.slice(0, i.bytes.length - 3000),
  },
  {
    name: 'a zstd cluster cut short',
    base: 'compressed-zstd.qcow2',
    code: DATA,
    by: 'read',
    change: (i) => i.bytes.slice(0, i.bytes.length - 3000),
  },
  {
    name: 'a subcluster both allocated and zero',
    base: 'extended-l2.qcow2',
    code: DATA,
    by: 'read',
    says: /both/,
    change: (i) => i.u64(i.l2Offset + 8, 0xffff_ffff_ffff_ffffn),
  },
  {
    name: 'an allocated subcluster without a place',
    base: 'extended-l2.qcow2',
    code: DATA,
    by: 'read',
    change: (i) => i.u64(i.l2Offset, 0n),
  },
];

const ALL: readonly (readonly [string, readonly Case[]])[] = [
  ['header', HEADER_CASES],
  ['names', NAME_CASES],
  ['tables', TABLE_CASES],
  ['bitmaps', BITMAP_CASES],
  ['mapping', MAPPING_CASES],
];

describe.each(ALL)('%s', (_, cases) => {
  test.each(cases.map((c) => [c.name, c] as const))(
    '%s',
    async (__, { base, change, code, by = 'open', says }) => {
      const image = new Patch(Uint8Array.from(fixtureBytes(base ?? PLAIN)));
      const changed = change(image);
      const bytes = changed instanceof Uint8Array ? changed : image.bytes;
      const error = await refusal(bytes, by);
      expect(Array.isArray(code) ? code : [code]).toContain(error.code);
      if (says !== undefined) expect(error.message).toMatch(says);
      await expectNoCrash(bytes);
    },
    10_000,
  );
});

/** The error that an image gives; the image must be sound up to there. */
async function refusal(bytes: Uint8Array, by: NonNullable<Case['by']>): Promise<VimgError> {
  const opening = qcow2Driver.open(MemoryDevice.from(bytes), { readOnly: true, gate: noGate });
  const work =
    by === 'open'
      ? opening
      : opening.then((layer) => (by === 'info' ? (layer.info() as Promise<unknown>) : readWhole(layer)));
  try {
    await work;
  } catch (error) {
    if (!isVimgError(error)) throw error;
    return error;
  }
  throw new TypeError('the image was accepted');
}

/** Whatever is wrong: check and inspect end with a report or a VimgError, too. */
async function expectNoCrash(bytes: Uint8Array): Promise<void> {
  const file = MemoryDevice.from(bytes);
  await qcow2Driver.check?.(file, {}).catch((error: unknown) => {
    if (!isVimgError(error)) throw error;
  });
  const structures: string[] = [];
  for await (const structure of qcow2Driver.inspect?.(file) ?? []) structures.push(structure.name);
  expect(structures).toContain('header');
}

describe('more than one file', () => {
  test.each([0, 1, 4, 71, 72, 103])('a file of %i bytes', async (length) => {
    const error = await refusal(fixtureBytes(PLAIN).slice(0, length), 'open');
    expect(error.code).toBe(FORMAT);
  });

  test('the corrupt bit: readable with a warning, not writable', async () => {
    const file = MemoryDevice.from(fixtureBytes('corrupt-bit.qcow2'));
    await expect(qcow2Driver.open(file, { readOnly: false, gate: noGate })).rejects.toMatchObject({
      code: 'CORRUPT',
    });
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    expect((await layer.info()).warnings?.join()).toMatch(/corrupt/);
  });

  test('version 2 with the fields of version 3 is read as version 2', async () => {
    const image = new Patch(Uint8Array.from(fixtureBytes(PLAIN)));
    image.u32(4, 2);
    const layer = await qcow2Driver.open(MemoryDevice.from(image.bytes), { readOnly: true, gate: noGate });
    expect((await layer.info()).specific).toEqual({
      compat: '0.10',
      'compression-type': 'zlib',
      'refcount-bits': 16,
    });
  });

  test('two entries for one cluster are a corruption to check', async () => {
    const image = new Patch(Uint8Array.from(fixtureBytes(PLAIN)));
    image.u64(image.l2Offset + ENTRY + 8, image.view.getBigUint64(image.l2Offset + ENTRY));
    const report = await qcow2Driver.check?.(MemoryDevice.from(image.bytes), {});
    expect(report).toMatchObject({ corruptions: 1, leaks: 1 });
    expect(report?.findings.map((finding) => finding.kind).sort()).toEqual([
      'cluster-leaked',
      'refcount-too-low',
    ]);
  });

  test('a repair is refused', async () => {
    const file = MemoryDevice.from(fixtureBytes('leaked.qcow2'));
    await expect(qcow2Driver.check?.(file, { repair: 'leaks' })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
  });

  test('a sparse file of 2^53 bytes is opened, and too large to check', async () => {
    const file = MemoryDevice.from(fixtureBytes(PLAIN));
    file.resize(Number.MAX_SAFE_INTEGER);
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    await layer.locate(0, 1, new Location());
    await expect(qcow2Driver.check?.(file, {})).rejects.toMatchObject({ code: 'LIMIT' });
  });

  test('four million L2 tables in a hole are checked without reading them', async () => {
    const tables = 4 * 1024 * 1024;
    const file = MemoryDevice.from(fixtureBytes(PLAIN));
    const l1 = new DataView(new ArrayBuffer(tables * 8));
    for (let i = 0; i < tables; i++) l1.setBigUint64(i * 8, COPIED | BigInt(2 ** 26 + i * 4096));
    file.pwrite(new Uint8Array(l1.buffer), 65536);
    const header = new DataView(new ArrayBuffer(12));
    header.setUint32(0, tables);
    header.setBigUint64(4, 65536n);
    file.pwrite(new Uint8Array(header.buffer), 36);
    file.resize(2 ** 36);
    const report = await qcow2Driver.check?.(file, {});
    expect(report?.corruptions).toBeGreaterThan(tables);
    expect(report?.findings.length).toBeLessThan(2000);
  }, 30_000);
});

describe('compressed clusters that expand without end', () => {
  test('deflate', async () => {
    const bomb = deflateRawSync(new Uint8Array(16 * 1024 * 1024), { windowBits: 12 });
    await expectBomb('compressed-zlib.qcow2', bomb);
  });

  test('zstd, by runs of one byte', async () => {
    // A frame without content size and a window of 128 KiB; each block is a run of 128 KiB, 4 bytes long.
    const block = [0x02, 0x00, 0x10, 0x41];
    const blocks = Array.from({ length: 900 }, () => block).flat();
    await expectBomb(
      'compressed-zstd.qcow2',
      Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x38, ...blocks, 1, 0, 0]),
    );
  });

  test('zstd, by its content size', async () => {
    const huge = Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0x38, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
    await expectBomb('compressed-zstd.qcow2', huge);
  });

  async function expectBomb(base: string, stored: Uint8Array): Promise<void> {
    const image = new Patch(Uint8Array.from(fixtureBytes(base)));
    const file = MemoryDevice.from(image.bytes);
    const place = Math.ceil(file.size / 65536) * 65536;
    file.pwrite(stored, place);
    const sectors = Math.ceil(stored.length / 512) - 1;
    const entry = new DataView(new ArrayBuffer(8));
    entry.setBigUint64(0, (1n << 62n) | (BigInt(sectors) << 54n) | BigInt(place));
    file.pwrite(new Uint8Array(entry.buffer), image.l2Offset);
    const layer = await qcow2Driver.open(file, { readOnly: true, gate: noGate });
    await expect(readWhole(layer)).rejects.toMatchObject({ code: 'CORRUPT' });
  }
});
