/** Entries of the tables of the data path, bit by bit as the spec's lists have them. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCreateOptions } from '../../../formats/qcow2/create-options.ts';
import { readHeader } from '../../../formats/qcow2/header.ts';
import { encodeFirstCluster } from '../../../formats/qcow2/header-writer.ts';
import * as l2 from '../../../formats/qcow2/l2-table.ts';
import {
  readRefcount,
  refcountClusters,
  refcountMax,
  writeRefcount,
} from '../../../formats/qcow2/refcount.ts';
import { MemoryDevice } from '../../../src/device/memory-device.ts';

/** The mask of bits `low` to `high` of a 64-bit entry. */
function bits(low: number, high: number): bigint {
  return ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

function halves(entry: bigint): { high: number; low: number } {
  return { high: Number(entry >> 32n), low: Number(entry & 0xffff_ffffn) };
}

const RULES: l2.EntryRules = {
  version: 3,
  clusterBits: 16,
  clusterSize: 65536,
  extendedL2: false,
  externalData: false,
};

function kind(entry: bigint, rules: Partial<l2.EntryRules> = {}): l2.ClusterKind {
  const { high, low } = halves(entry);
  return l2.standardKind(high, low, { ...RULES, ...rules });
}

describe('masks', () => {
  test.each([
    ['copied', l2.HIGH_COPIED, 63, 63],
    ['compressed', l2.HIGH_COMPRESSED, 62, 62],
    ['reserved, high', l2.HIGH_RESERVED, 56, 61],
    ['offset, high', l2.HIGH_OFFSET, 32, 55],
    ['L1 reserved, high', l2.L1_HIGH_RESERVED, 56, 62],
  ])('%s', (_, mask, low, high) => {
    expect(BigInt(mask) << 32n).toBe(bits(low, high));
  });

  test.each([
    ['offset, low', l2.LOW_OFFSET, 9, 31],
    ['reserved, low', l2.LOW_RESERVED, 1, 8],
    ['zero', l2.LOW_ZERO, 0, 0],
    ['L1 reserved, low', l2.L1_LOW_RESERVED, 0, 8],
  ])('%s', (_, mask, low, high) => {
    expect(BigInt(mask)).toBe(bits(low, high));
  });
});

describe('standard entries', () => {
  const copied = 1n << 63n;
  test.each([
    ['nothing', 0n, {}, l2.CLUSTER_UNALLOCATED],
    ['data', copied | 0x50000n, {}, l2.CLUSTER_DATA],
    ['data that is shared', 0x50000n, {}, l2.CLUSTER_DATA],
    ['zero', 1n, {}, l2.CLUSTER_ZERO],
    ['zero with a place', copied | 0x50001n, {}, l2.CLUSTER_ZERO_ALLOCATED],
    ['zero in version 2', 1n, { version: 2 }, l2.CLUSTER_BAD],
    ['compressed', (1n << 62n) | 77n, {}, l2.CLUSTER_COMPRESSED],
    ['compressed with a data file', (1n << 62n) | 77n, { externalData: true }, l2.CLUSTER_BAD],
    ['a place at 0', copied, {}, l2.CLUSTER_BAD],
    ['a place at 0 of a data file', copied, { externalData: true }, l2.CLUSTER_DATA],
    ['off the boundary', copied | 0x50200n, {}, l2.CLUSTER_BAD],
  ] as const)('%s', (_, entry, rules, expected) => {
    expect(kind(entry, rules)).toBe(expected);
  });

  test('every reserved bit counts', () => {
    for (const bit of [1, 2, 3, 4, 5, 6, 7, 8, 56, 57, 58, 59, 60, 61]) {
      expect(kind((1n << 63n) | 0x50000n | (1n << BigInt(bit)))).toBe(l2.CLUSTER_BAD);
    }
  });

  test('the offset is bits 9 to 55', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (entry) => {
        const { high, low } = halves(entry);
        const expected = entry & bits(9, 55);
        fc.pre(expected <= BigInt(Number.MAX_SAFE_INTEGER));
        expect(BigInt(l2.hostOffset(high, low))).toBe(expected);
      }),
      { seed: 1 },
    );
  });
});

describe('extended entries', () => {
  const rules = { ...RULES, clusterBits: 14, clusterSize: 16384, extendedL2: true };
  test('bit x of the low half is allocation, of the high half zero', () => {
    const { high, low } = halves((1n << 63n) | 0x50000n);
    for (let x = 0; x < 32; x++) {
      const bit = (1 << x) >>> 0;
      expect(l2.subclusterKind(high, low, 0, bit, x, rules)).toBe(l2.CLUSTER_DATA);
      expect(l2.subclusterKind(high, low, bit, 0, x, rules)).toBe(l2.CLUSTER_ZERO_ALLOCATED);
      expect(l2.subclusterKind(0, 0, bit, 0, x, rules)).toBe(l2.CLUSTER_ZERO);
      expect(l2.subclusterKind(high, low, 0, ~bit >>> 0, x, rules)).toBe(l2.CLUSTER_UNALLOCATED);
    }
    expect(l2.subclusterKind(high, low, 1, 1, 5, rules)).toBe(l2.CLUSTER_BAD);
    expect(l2.subclusterKind(high, low | 1, 0, 1, 5, rules)).toBe(l2.CLUSTER_BAD);
  });
});

describe('compressed entries', () => {
  test('come back as they were encoded, for every cluster size', () => {
    const input = fc.record({
      clusterBits: fc.integer({ min: 9, max: 21 }),
      offset: fc.integer({ min: 0, max: 2 ** 49 - 2 ** 22 }),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(input, ({ clusterBits, offset, part }) => {
        const length = 1 + Math.floor(part * (2 ** clusterBits - 2));
        const { high, low } = l2.encodeCompressed(offset, length, clusterBits);
        const entry = (BigInt(high) << 32n) | BigInt(low);
        const x = BigInt(62 - (clusterBits - 8));
        const sectors = BigInt(Math.floor((offset + length - 1) / 512) - Math.floor(offset / 512));
        expect(entry).toBe((1n << 62n) | (sectors << x) | BigInt(offset));
        const place = l2.compressedPlace(high, low, clusterBits);
        expect(place.offset).toBe(offset);
        expect(place.length).toBeGreaterThanOrEqual(length);
        expect((place.offset + place.length) % 512).toBe(0);
      }),
      { seed: 1 },
    );
  });
});

describe('refcounts', () => {
  test.each([1, 2, 4, 8, 16, 32, 64])('%i bits wide come back, and leave their neighbours', (width) => {
    const block = new DataView(new ArrayBuffer(512));
    const entries = (512 * 8) / width;
    const value = (i: number): number => (i * 7919) % (Math.min(refcountMax(width), 2 ** 40) + 1);
    for (let i = 0; i < entries; i++) writeRefcount(block, i, width, value(i));
    for (let i = 0; i < entries; i++) expect(readRefcount(block, i, width)).toBe(value(i));
  });

  test('narrow ones fill a byte from its lowest bit', () => {
    const block = new DataView(new ArrayBuffer(512));
    writeRefcount(block, 0, 1, 1);
    writeRefcount(block, 9, 1, 1);
    writeRefcount(block, 5, 4, 0xa);
    expect([block.getUint8(0), block.getUint8(1), block.getUint8(2)]).toEqual([1, 2, 0xa0]);
  });

  test('their structures count themselves', () => {
    for (const [clusters, size, width] of [
      [1, 512, 64],
      [64, 512, 64],
      [32768, 65536, 16],
      [10 ** 9, 65536, 16],
      [10 ** 6, 512, 1],
    ] as const) {
      const { blocks, table } = refcountClusters(clusters, size, width);
      expect((blocks * size * 8) / width).toBeGreaterThanOrEqual(clusters + blocks + table);
      expect((table * size) / 8).toBeGreaterThanOrEqual(blocks);
    }
  });
});

test('a header comes back as it was written', async () => {
  for (const values of [
    {},
    { compat: '0.10' },
    { compression_type: 'zstd' },
    { lazy_refcounts: true, refcount_bits: 1 },
  ]) {
    const options = parseCreateOptions(values);
    const { clusterSize } = options;
    const backing = { path: 'a/ü.raw', format: 'raw' };
    const cluster = encodeFirstCluster({
      options,
      virtualSize: 12_345 * 512,
      backing,
      l1Size: 1,
      l1TableOffset: clusterSize,
      refcountTableOffset: 2 * clusterSize,
      refcountTableClusters: 1,
    });
    const file = MemoryDevice.from(Buffer.concat([cluster, new Uint8Array(2 * clusterSize)]));
    expect(await readHeader(file)).toMatchObject({
      version: options.version,
      clusterSize,
      virtualSize: 12_345 * 512,
      backing,
      l1Size: 1,
      l1TableOffset: clusterSize,
      refcountTableOffset: 2 * clusterSize,
      refcountBits: options.refcountBits,
      lazyRefcounts: options.lazyRefcounts,
      compressionType: options.compressionType,
      dirty: false,
      corrupt: false,
    });
  }
});
