/** Blocks as vims.ksy shows them, held against the layouts and readers of the implementation, byte by byte. */
import { expect } from 'vitest';
import type { Layout } from '../../src/binary/layout.ts';
import { formatUuid } from '../../src/binary/uuid.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { Block, getU64 } from '../../src/vims/block.ts';
import { entryCluster, entryShared, entryWritten } from '../../src/vims/cluster-map.ts';
import { areaOf, inlineAreaOf } from '../../src/vims/directory.ts';
import { type EntryArea, rawEntriesIn } from '../../src/vims/directory-entries.ts';
import {
  BLOCK,
  blockOnDevice,
  COUNTS_PER_BLOCK,
  DEVICES_MAX,
  deviceOfCluster,
} from '../../src/vims/geometry.ts';
import { inlineContent } from '../../src/vims/inode.ts';
import {
  BLOCK_TYPES,
  blockHeaderLayout,
  CONTENT,
  DESCRIPTOR_ADDRESSES,
  DESCRIPTOR_AT,
  deviceEntryLayout,
  GROUP_AT,
  HEADER,
  INODE_AT,
  KIND,
  METADATA_CLUSTER_BITMAP,
  ROOT_ENTRIES,
  TREE_AT,
  TREE_ENTRIES,
} from '../../src/vims/layout.ts';
import { type Parsed, placeOf } from '../ksy-compiler.ts';
import type { ParsedBlock, ParsedClusterEntry, ParsedNames, ParsedPointer } from './parsed-vims.ts';
import { readBlock } from './sample-volume.ts';
import { LAYOUTS } from './volume-structures.ts';

/** A block in both views. */
interface Pair {
  /** By the implementation. */
  readonly block: Block;
  readonly body: Parsed;
  /** Of the block on its device. */
  readonly offset: number;
}

/**
 * Compares everything that is in a block.
 *
 * @param address where it is; it may belong elsewhere
 * @returns the name of its type
 */
export function compareBlock(devices: readonly MemoryDevice[], address: number, found: ParsedBlock): string {
  const { bytes } = readBlock(devices, address);
  const offset = blockOnDevice(address) * BLOCK;
  compareFields(blockHeaderLayout, found.header, bytes, 0, offset);
  const number = found.header.type;
  const type = Object.entries(BLOCK_TYPES).find(
    ([, each]) => each === number,
  )?.[0] as keyof typeof BLOCK_TYPES;
  const pair: Pair = { block: new Block(address, bytes), body: found.body, offset };
  const layout = LAYOUTS[type];
  if (layout) compareFields(layout, found.body, bytes, HEADER, offset);
  TABLES[type]?.(pair);
  return type;
}

/** Every field of a layout: what it holds, where it begins and where it ends. */
export function compareFields(
  layout: Layout<object>,
  found: Parsed,
  bytes: Uint8Array,
  at: number,
  offset: number,
): void {
  const decoded = layout.decode(bytes, at) as Record<string, unknown>;
  for (const row of layout.rows) {
    const place = placeOf(found, row.field);
    const label = `${layout.name}.${row.field}`;
    expect({ [label]: [place.offset, place.length] }).toEqual({
      [label]: [offset + at + row.offset, row.size],
    });
    if (row.field === 'deviceTable') compareDevices(found, bytes, at + row.offset, offset);
    else {
      const value = found[row.field];
      expect({ [label]: parsedValue(value) }).toEqual({ [label]: decodedValue(decoded[row.field], value) });
    }
  }
}

/** A value as it was parsed: the description has types of its own for some. */
function parsedValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (typeof value === 'object' && value !== null && 'bytes' in value) {
    return formatUuid(value.bytes as Uint8Array);
  }
  return value;
}

/** The same, from what a layout decoded. */
function decodedValue(value: unknown, found: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  // the description ends texts where they end; bytes are padded
  return typeof value === 'string' && typeof found === 'string' ? value.replace(/\0+$/, '') : value;
}

/** A field that repeats: as many as there should be, one after the other from `offset` on. */
function compareRow(found: Parsed, field: string, offset: number, size: number, count: number): void {
  const items = Array.from({ length: count }, (_, i) => i * size);
  expect(placeOf(found, field)).toEqual({ offset, length: size * count, items });
}

function compareDevices(found: Parsed, bytes: Uint8Array, at: number, offset: number): void {
  const { size } = deviceEntryLayout;
  const table = found['deviceTable'] as readonly Parsed[];
  compareRow(found, 'deviceTable', offset + at, size, DEVICES_MAX);
  for (const [i, entry] of table.entries())
    compareFields(deviceEntryLayout, entry, bytes, at + i * size, offset);
}

/** What follows the fields, by the functions that the implementation reads it with. */
const TABLES: Partial<Record<keyof typeof BLOCK_TYPES, (pair: Pair) => void>> = {
  group: (pair) => compareBitmap(pair, GROUP_AT.bitmap),
  metadataCluster: (pair) => compareBitmap(pair, METADATA_CLUSTER_BITMAP),
  counts: ({ block, body, offset }) => {
    compareRow(body, 'counts', offset + HEADER, 2, COUNTS_PER_BLOCK);
    const counts = Array.from({ length: COUNTS_PER_BLOCK }, (_, i) =>
      block.view.getUint16(HEADER + i * 2, true),
    );
    expect(body['counts']).toEqual(counts);
  },
  inode: compareInode,
  tree: (pair) => {
    const isLeaf = pair.block.view.getUint32(TREE_AT.level, true) === 0;
    comparePointers(pair, TREE_AT.entries, TREE_ENTRIES);
    if (isLeaf) compareClusterMap(pair, TREE_AT.entries, TREE_ENTRIES);
    else expect(pair.body['clusterMap']).toBeUndefined();
  },
  directory: (pair) => {
    const area = areaOf(pair.block);
    compareNames(pair, pair.body['names'] as ParsedNames, area);
    expect((pair.body['names'] as ParsedNames).names.length).toBe(pair.body['entries']);
  },
  journalDescriptor: ({ block, body, offset }) => {
    const { images, first } = body as unknown as { images: number; first: number };
    const count = Math.min(DESCRIPTOR_ADDRESSES, images - first);
    compareRow(body, 'addresses', offset + DESCRIPTOR_AT.addresses, 8, count);
    const addresses = Array.from({ length: count }, (_, i) =>
      getU64(block.view, DESCRIPTOR_AT.addresses + i * 8),
    );
    expect(body['addresses']).toEqual(addresses);
  },
};

function compareBitmap({ block, body, offset }: Pair, at: number): void {
  const bitmap = body['bitmap'] as Uint8Array;
  expect(placeOf(body, 'bitmap')).toMatchObject({ offset: offset + at, length: 32 });
  expect(Buffer.compare(bitmap, block.bytes.subarray(at, at + 32))).toBe(0);
}

function compareInode(pair: Pair): void {
  const { block, body, offset } = pair;
  const isTree = body['content'] === CONTENT.tree;
  const isFile = body['kind'] === KIND.file;
  const hasMap = isTree && isFile && body['depth'] === 0;
  const shown = ['inlineBytes', 'names', 'clusterMap', 'pointers'].filter((each) => body[each] !== undefined);
  if (hasMap) {
    expect(shown).toEqual(['clusterMap']);
    compareClusterMap(pair, INODE_AT.payload, ROOT_ENTRIES);
  } else if (isTree) {
    expect(shown).toEqual(['pointers']);
    comparePointers(pair, INODE_AT.payload, ROOT_ENTRIES);
  } else if (isFile) {
    expect(shown).toEqual(['inlineBytes']);
    const bytes = inlineContent(block);
    expect(placeOf(body, 'inlineBytes')).toMatchObject({
      offset: offset + INODE_AT.payload,
      length: bytes.length,
    });
    expect(Buffer.compare(body['inlineBytes'] as Uint8Array, bytes)).toBe(0);
  } else {
    expect(shown).toEqual(['names']);
    const names = body['names'] as ParsedNames;
    compareNames(pair, names, inlineAreaOf(block));
    expect(names.names.length).toBe(body['entries']);
  }
}

function comparePointers({ block, body, offset }: Pair, at: number, count: number): void {
  const pointers = body['pointers'] as readonly ParsedPointer[];
  compareRow(body, 'pointers', offset + at, 8, count);
  expect(pointers.map(({ address }) => address)).toEqual(
    Array.from({ length: count }, (_, i) => getU64(block.view, at + i * 8)),
  );
}

function compareClusterMap({ block: { view }, body, offset }: Pair, at: number, count: number): void {
  const map = body['clusterMap'] as readonly ParsedClusterEntry[];
  compareRow(body, 'clusterMap', offset + at, 8, count);
  const expected = Array.from({ length: count }, (_, i) => {
    const address = entryCluster(view, at + i * 8);
    const [written, isShared] = [entryWritten(view, at + i * 8), entryShared(view, at + i * 8)];
    return `${address} ${deviceOfCluster(address)} ${written} ${isShared}`;
  });
  // as texts: there are many of them
  const found = map.map((entry) => `${entry.address} ${entry.device} ${entry.written} ${entry.isShared}`);
  expect(found).toEqual(expected);
}

function compareNames({ body, offset }: Pair, found: ParsedNames, area: EntryArea): void {
  const { start, block, usedAt } = area;
  const used = block.view.getUint32(usedAt, true);
  expect(placeOf(body, 'names')).toMatchObject({ offset: offset + start, length: used });
  let end = offset + start;
  for (const [i, raw] of rawEntriesIn(area).entries()) {
    const name = found.names[i];
    expect(name).toMatchObject({ inode: raw.inode, hash: raw.hash, kind: raw.kindNumber, name: raw.name });
    expect(name?.length).toBe(raw.nameBytes.length);
    expect(placeOf(name as Parsed, 'name')).toMatchObject({ offset: end + 14, length: raw.nameBytes.length });
    end += 14 + raw.nameBytes.length;
  }
  expect(end).toBe(offset + start + used);
}
