/** The structures of a volume, as SPEC.md specifies them. Little-endian throughout. */
import { ascii, bits64le, bytes, u8, u16le, u32le, u64le, uuid } from '../binary/field-types.ts';
import { type Layout, layout } from '../binary/layout.ts';
import { BLOCK } from './geometry.ts';

export const MAGIC = 'VIMS';
export const VERSION = 1;
export const HEADER = 64;

/** What a block is. Closed list; the numbers are on disk. */
export const BLOCK_TYPES = {
  superblock: 1,
  deviceRecord: 2,
  heartbeat: 3,
  eviction: 4,
  ballot: 5,
  slot: 6,
  group: 7,
  counts: 8,
  metadataCluster: 9,
  inode: 10,
  tree: 11,
  directory: 12,
  journalHeader: 13,
  journalDescriptor: 14,
} as const;

export type BlockTypeName = keyof typeof BLOCK_TYPES;

export interface BlockHeader {
  readonly magic: string;
  readonly type: number;
  readonly version: number;
  readonly volume: string;
  readonly address: number;
  readonly generation: number;
  readonly owner: number;
  readonly writer: number;
  readonly reserved1: number;
  readonly epoch: number;
  readonly reserved2: number;
  readonly crc: number;
}

export const blockHeaderLayout: Layout<BlockHeader> = layout<BlockHeader>('block header', HEADER, {
  magic: [0, ascii(4), '`VIMS`'],
  type: [4, u16le, 'what the block is'],
  version: [6, u16le, '1'],
  volume: [8, uuid, "the volume's UUID"],
  address: [24, u64le, 'the block address where it belongs'],
  generation: [32, u64le, 'the transaction that wrote it; grows'],
  owner: [40, u64le, 'block address of the inode that it is part of; 0 for none'],
  writer: [48, u16le, 'slot of the node that wrote it'],
  reserved1: [50, u16le, '0'],
  epoch: [52, u32le, 'epoch of the membership in which it was written; 0 without a cluster'],
  reserved2: [56, u32le, '0'],
  crc: [60, u32le, 'CRC32C of the block with this field zero'],
});

/** Where in a block its header's fields are that are read without decoding it. */
export const AT = {
  type: 4,
  version: 6,
  volume: 8,
  address: 24,
  generation: 32,
  owner: 40,
  crc: 60,
} as const;

export interface Superblock {
  readonly incompatible: bigint;
  readonly readOnlyCompatible: bigint;
  readonly compatible: bigint;
  readonly blockSize: number;
  readonly clusterSize: number;
  readonly groupClusters: number;
  readonly slots: number;
  readonly devices: number;
  readonly deviceIndex: number;
  readonly reserved1: number;
  readonly heartbeatMs: number;
  readonly deadThreshold: number;
  readonly idleMs: number;
  readonly root: number;
  readonly createdMs: number;
  readonly reserved2: Uint8Array;
  readonly deviceTable: Uint8Array;
  readonly reserved3: Uint8Array;
}

/** After the block header. */
export const superblockLayout: Layout<Superblock> = layout<Superblock>('superblock', BLOCK - HEADER, {
  incompatible: [0, bits64le, 'features without which the volume must not be opened'],
  readOnlyCompatible: [8, bits64le, 'features without which it must not be written'],
  compatible: [16, bits64le, 'other features'],
  blockSize: [24, u32le, 'bytes of a block: 4096'],
  clusterSize: [28, u32le, 'bytes of a cluster: 1048576'],
  groupClusters: [32, u32le, 'clusters of an allocation group: 8064'],
  slots: [36, u16le, 'node slots, 1 to 255'],
  devices: [38, u16le, 'devices of the volume, 1 to 64'],
  deviceIndex: [40, u16le, 'which of them this one is, from 0'],
  reserved1: [42, u16le, '0'],
  heartbeatMs: [44, u32le, 'milliseconds between two heartbeats'],
  deadThreshold: [48, u32le, 'heartbeats missed after which a node is dead'],
  idleMs: [52, u32le, 'milliseconds of silence on the network that count as broken'],
  root: [56, u64le, 'block address of the inode of the root folder'],
  createdMs: [64, u64le, 'milliseconds since 1970 when it was made'],
  reserved2: [72, bytes(120), 'zeroes'],
  deviceTable: [192, bytes(2048), 'an entry for each device, in their order; then zeroes'],
  reserved3: [2240, bytes(1792), 'zeroes'],
});

export interface DeviceEntry {
  readonly uuid: string;
  readonly clusters: number;
  readonly reserved: number;
}

export const deviceEntryLayout: Layout<DeviceEntry> = layout<DeviceEntry>('device entry', 32, {
  uuid: [0, uuid, "the device's own UUID, also owner of its superblock"],
  clusters: [16, u64le, 'clusters of the device that the volume uses'],
  reserved: [24, u64le, '0'],
});

export interface DeviceRecord {
  readonly groupsReady: number;
}

export const deviceRecordLayout: Layout<DeviceRecord> = layout<DeviceRecord>('device record', 4, {
  groupsReady: [0, u32le, 'groups that have been made ready, from the first on; nothing is in the others'],
});

export interface Slot {
  readonly state: number;
  readonly journalClusters: number;
  readonly journal: number;
  readonly orphans: number;
  readonly attachedMs: number;
  readonly incarnation: number;
  readonly host: string;
}

export const SLOT_STATES = { free: 0, attached: 1, detached: 2 } as const;

export const slotLayout: Layout<Slot> = layout<Slot>('slot', 104, {
  state: [0, u32le, '0 never used, 1 attached (or left without a farewell), 2 left in order'],
  journalClusters: [4, u32le, 'clusters of its journal'],
  journal: [8, u64le, 'cluster address of its journal; 0 while it has none'],
  orphans: [16, u64le, 'block address of the inode of its folder of orphans; 0 while it has none'],
  attachedMs: [24, u64le, 'milliseconds since 1970 when it was last attached'],
  incarnation: [32, u64le, 'times it was attached'],
  host: [40, ascii(64), 'name of the host that attached it, padded with NUL'],
});

export interface Group {
  readonly index: number;
  readonly clusters: number;
  readonly freeClusters: number;
  readonly freeBlocks: number;
  readonly delegate: number;
  readonly reserved: number;
}

/** In front of the bitmap of the group's first cluster. */
export const groupLayout: Layout<Group> = layout<Group>('group', 24, {
  index: [0, u32le, 'which group of its device it is'],
  clusters: [4, u32le, 'clusters that it has, its first one included'],
  freeClusters: [8, u32le, 'of them, clusters with the count 0'],
  freeBlocks: [12, u32le, 'free blocks in its metadata clusters'],
  delegate: [16, u32le, 'slot of the node that allocates in it, plus 1; 0 for none'],
  reserved: [20, u32le, '0'],
});

/** Offsets in a group's block. */
export const GROUP_AT = { clusters: 68, freeClusters: 72, freeBlocks: 76, bitmap: 88 } as const;
/** Where the block of a metadata cluster has its bitmap. */
export const METADATA_CLUSTER_BITMAP = 64;

/** Counts that are no counts. */
export const COUNT_METADATA = 0xffff;
export const COUNT_SYSTEM = 0xfffe;
/** Files that may share a cluster. */
export const COUNT_MAX = 0xfff0;

export interface Inode {
  readonly kind: number;
  readonly content: number;
  readonly depth: number;
  readonly hashBits: number;
  readonly links: number;
  readonly size: number;
  readonly birth: number;
  readonly modifiedNs: bigint;
  readonly clusters: number;
  readonly entries: number;
  readonly seed: number;
  readonly parent: number;
  readonly reserved: Uint8Array;
}

export const KIND = { file: 1, folder: 2 } as const;
export const CONTENT = { inline: 0, tree: 1 } as const;

export const inodeLayout: Layout<Inode> = layout<Inode>('inode', 128, {
  kind: [0, u8, '1 file, 2 folder'],
  content: [1, u8, '0 bytes or entries in this block, 1 a tree'],
  depth: [2, u8, 'levels of tree blocks below this block, 0 to 4'],
  hashBits: [3, u8, 'of a folder with a tree: bits of the hash that number its buckets'],
  links: [4, u32le, 'names that it has; a folder 1'],
  size: [8, u64le, 'bytes of a file; bytes of entries in this block of a folder'],
  birth: [16, u64le, 'a number that no other inode gets: with the address, its identity'],
  modifiedNs: [24, bits64le, 'nanoseconds since 1970 of the last change of the content'],
  clusters: [32, u64le, 'clusters that are mapped in it'],
  entries: [40, u32le, 'names in a folder'],
  seed: [44, u32le, 'what the hash of names in a folder starts from'],
  parent: [48, u64le, 'of a folder: block address of the folder that it is in'],
  reserved: [56, bytes(72), 'zeroes'],
});

/** Offsets in an inode's block. */
export const INODE_AT = {
  kind: 64,
  content: 65,
  depth: 66,
  hashBits: 67,
  links: 68,
  size: 72,
  birth: 80,
  modifiedNs: 88,
  clusters: 96,
  entries: 104,
  seed: 108,
  parent: 112,
  payload: 192,
} as const;

export const INODE_PAYLOAD: number = BLOCK - INODE_AT.payload;

export interface TreeBlock {
  readonly level: number;
  readonly reserved: number;
  readonly first: number;
}

export const treeBlockLayout: Layout<TreeBlock> = layout<TreeBlock>('tree block', 16, {
  level: [0, u32le, '0 for a leaf'],
  reserved: [4, u32le, '0'],
  first: [8, u64le, 'index of the first entry below it'],
});

export const TREE_AT = { level: 64, first: 72, entries: 80 } as const;
/** 8-byte entries in a tree block and in an inode. */
export const TREE_ENTRIES: number = (BLOCK - TREE_AT.entries) / 8;
export const ROOT_ENTRIES: number = INODE_PAYLOAD / 8;
export const TREE_DEPTH_MAX = 4;

export interface DirectoryBlock {
  readonly bits: number;
  readonly entries: number;
  readonly used: number;
  readonly pattern: number;
}

export const directoryBlockLayout: Layout<DirectoryBlock> = layout<DirectoryBlock>('directory block', 16, {
  bits: [0, u32le, 'low bits of the hash that all names in it share'],
  entries: [4, u32le, 'names in it'],
  used: [8, u32le, 'bytes of its entries'],
  pattern: [12, u32le, 'what these bits are'],
});

export const DIRECTORY_AT = { bits: 64, entries: 68, used: 72, pattern: 76, payload: 80 } as const;

export interface JournalHeader {
  readonly sequence: number;
  readonly position: number;
  readonly blocks: number;
}

export const journalHeaderLayout: Layout<JournalHeader> = layout<JournalHeader>('journal header', 16, {
  sequence: [0, u64le, 'generation of the oldest record that must be replayed, if it is there'],
  position: [8, u32le, 'block of the journal where that record is, from 1'],
  blocks: [12, u32le, 'blocks of the journal, this one included'],
});

export interface JournalDescriptor {
  readonly images: number;
  readonly first: number;
  readonly reserved: bigint;
}

export const journalDescriptorLayout: Layout<JournalDescriptor> = layout<JournalDescriptor>(
  'journal descriptor',
  16,
  {
    images: [0, u32le, 'images of the record'],
    first: [4, u32le, 'which of them the first address below stands for'],
    reserved: [8, bits64le, '0'],
  },
);

export const DESCRIPTOR_AT = { images: 64, first: 68, addresses: 80 } as const;
export const DESCRIPTOR_ADDRESSES: number = (BLOCK - DESCRIPTOR_AT.addresses) / 8;
