/** The blocks of a volume that a hostile one is made from, and the fields of each. */
import { crc32cBulk } from '../../src/binary/crc32c.ts';
import type { Layout } from '../../src/binary/layout.ts';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import { BLOCK, blockAddress, blockOnDevice, deviceOfBlock } from '../../src/vims/geometry.ts';
import {
  AT,
  BLOCK_TYPES,
  type BlockTypeName,
  blockHeaderLayout,
  deviceRecordLayout,
  directoryBlockLayout,
  groupLayout,
  HEADER,
  inodeLayout,
  journalDescriptorLayout,
  journalHeaderLayout,
  slotLayout,
  superblockLayout,
  treeBlockLayout,
} from '../../src/vims/layout.ts';
import { readBlock } from './sample-volume.ts';

export interface Field {
  readonly name: string;
  readonly at: number;
  readonly size: number;
}

export interface Structure {
  readonly address: number;
  readonly type: BlockTypeName;
  readonly fields: readonly Field[];
}

/** The fields that follow the header, of blocks that have some. */
export const LAYOUTS: Partial<Record<BlockTypeName, Layout<object>>> = {
  superblock: superblockLayout,
  deviceRecord: deviceRecordLayout,
  slot: slotLayout,
  group: groupLayout,
  inode: inodeLayout,
  tree: treeBlockLayout,
  directory: directoryBlockLayout,
  journalHeader: journalHeaderLayout,
  journalDescriptor: journalDescriptorLayout,
};

/** What follows the fields: entries, counts, names, addresses, bitmaps. */
const TABLES: Partial<Record<BlockTypeName, readonly [at: number, size: number, count: number]>> = {
  superblock: [HEADER + 192, 8, 8],
  group: [88, 4, 8],
  counts: [HEADER, 2, 24],
  metadataCluster: [HEADER, 4, 8],
  inode: [192, 8, 4],
  tree: [80, 8, 4],
  directory: [80, 2, 12],
  journalDescriptor: [80, 8, 6],
};

/** Blocks of one kind that are worth their cases. */
const ALIKE: Partial<Record<BlockTypeName, number>> = { inode: 9, tree: 3, superblock: 2 };

/** All kinds of blocks that are in use on the devices, some of each, without images in the journal. */
export function structuresOf(devices: readonly MemoryDevice[]): Structure[] {
  const found: Structure[] = [];
  for (const [index, device] of devices.entries()) {
    for (let at = 0; at < device.size; ) {
      const { length, zero } = device.status(at, device.size - at);
      for (let block = at / BLOCK; !zero && block < (at + length) / BLOCK; block++) {
        const structure = structureAt(devices, blockAddress(index, block));
        if (!structure) continue;
        const alike = found.filter(({ type }) => type === structure.type).length;
        if (alike < (ALIKE[structure.type] ?? 1)) found.push(structure);
      }
      at += length;
    }
  }
  return found;
}

function structureAt(devices: readonly MemoryDevice[], address: number): Structure | undefined {
  const { view, bytes } = readBlock(devices, address);
  if (Buffer.from(bytes.subarray(0, 4)).toString('latin1') !== 'VIMS') return undefined;
  if (Number(view.getBigUint64(AT.address, true)) !== address) return undefined;
  const type = Object.entries(BLOCK_TYPES).find(
    ([, number]) => number === view.getUint16(AT.type, true),
  )?.[0];
  if (type === undefined) return undefined;
  const name = type as BlockTypeName;
  const fields = blockHeaderLayout.rows
    .filter(({ field }) => field !== 'crc')
    .map(({ field, offset, size }) => ({ name: field, at: offset, size }));
  for (const { field, offset, size } of LAYOUTS[name]?.rows ?? []) {
    if (size <= 64) fields.push({ name: `${name}.${field}`, at: HEADER + offset, size });
  }
  const [at, size, count] = TABLES[name] ?? [0, 0, 0];
  for (let i = 0; i < count; i++) fields.push({ name: `${name}[${i}]`, at: at + i * size, size });
  return { address, type: name, fields };
}

/** Values for a field, as bytes, each another than what is there. */
export function valuesFor(now: Uint8Array, bit: number): Uint8Array[] {
  const flipped = now.slice();
  const at = Math.floor(bit / 8) % now.length;
  flipped[at] = (flipped[at] as number) ^ (1 << (bit % 8));
  const all = [new Uint8Array(now.length), new Uint8Array(now.length).fill(0xff), flipped];
  if (now.length === 8) {
    for (const value of [2n ** 53n - 1n, 5n, 256n * 4n + 6n, 2n ** 40n + 6n]) {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      all.push(bytes);
    }
  }
  return all.filter((value) => Buffer.compare(value, now) !== 0);
}

/** Writes bytes into a block, and gives it a right checksum. */
export function put(devices: readonly MemoryDevice[], address: number, at: number, value: Uint8Array): void {
  const { view, bytes } = readBlock(devices, address);
  bytes.set(value, at);
  view.setUint32(AT.crc, 0, true);
  view.setUint32(AT.crc, crc32cBulk(bytes), true);
  devices[deviceOfBlock(address)]?.pwrite(bytes, blockOnDevice(address) * BLOCK);
}

/** Puts a copy of one block in the place of another, with a right checksum. */
export function putCopy(devices: readonly MemoryDevice[], from: number, to: number): void {
  put(devices, to, 0, readBlock(devices, from).bytes);
}
