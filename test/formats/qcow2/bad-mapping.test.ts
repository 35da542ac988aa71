/**
 * Hostile and damaged tables and data, files of the wrong length, clusters that expand without end: each gives a clear
 * error, soon and in little memory.
 */
import { deflateRawSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { fixtureBytes } from '../../../fixtures/unpack.ts';
import { qcow2Driver } from '../../../formats/qcow2/driver.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';
import { Location } from '../../../src/image/layer.ts';
import { type BadImage, COPIED, FORMAT, Patch, PLAIN, refusal, testBadImages } from './bad-image.ts';
import { noGate, readWhole } from './layer-reader.ts';

const DATA = 'CORRUPT';
/** The first entry in use of the fixture's L2 table: guest offset 4096. */
const ENTRY = 8;
const entryCase = (name: string, entry: bigint, says?: RegExp): BadImage => ({
  name,
  code: DATA,
  by: 'read',
  change: (i) => i.u64(i.l2Offset + ENTRY, entry),
  ...(says === undefined ? {} : { says }),
});

const MAPPING_CASES: readonly BadImage[] = [
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

describe('mapping', () => testBadImages(MAPPING_CASES));

describe('whole files', () => {
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
