/**
 * The on-disk structures of VVD, as SPEC.md describes them. All numbers little-endian, every structure aligned to
 * 4 KiB. Each page ends up self-describing: what it is, whose, where it belongs, from which transaction, and a
 * CRC32C over all of it.
 */
import { ascii, bytes, u16le, u32le, u64le, uuid } from '../../src/binary/field-types.ts';
import { type Layout, layout } from '../../src/binary/layout.ts';

export const PAGE = 4096;
export const MAGIC = 'VVDIMAGE';
export const VERSION_MAJOR = 1;
export const VERSION_MINOR = 0;

/** Offsets of the two header copies; generation g is written to copy g mod 2. */
export const HEADER_OFFSETS: readonly [number, number] = [0, PAGE];

export const STATE_CLEAN = 1;
export const STATE_DIRTY = 2;

/** Incompatible features. Bit 0: the layer is sealed (an implementation that would write must know). */
export const INCOMPATIBLE_SEALED = 0x1;
/** Bit 1: blocks may be compressed. */
export const INCOMPATIBLE_COMPRESSED = 0x2;
export const INCOMPATIBLE_KNOWN: number = INCOMPATIBLE_SEALED | INCOMPATIBLE_COMPRESSED;
export const READ_ONLY_COMPATIBLE_KNOWN = 0;

export const COMPRESSION_NONE = 0;
export const COMPRESSION_DEFLATE = 1;
export const COMPRESSION_ZSTD = 2;

export const PROVISIONING_THIN = 0;
export const PROVISIONING_LAZY = 1;
export const PROVISIONING_THICK = 2;

/** Work that a crash interrupted and that the next open completes or undoes. */
export const INTENT_NONE = 0;
/** Entries at and past `intentSize` are being cleared: the disk shrank. Completed by the next open. */
export const INTENT_TRIM = 1;
/** A snapshot named `snapshotName` is being taken: undone unless the new top already has the disk's name. */
export const INTENT_SNAPSHOT = 2;
/** A snapshot is being deleted: this sealed layer takes over data of a neighbour; guests see no change. */
export const INTENT_MERGE = 3;
/** This snapshot is being deleted by writing the disk's data over it: it keeps no past state any more. */
export const INTENT_DELETE = 4;

export const ATTRIBUTE_SLOT_PAGES = 68;
export const SPACE_PAGES = 8;

export interface Header {
  magic: string;
  versionMajor: number;
  versionMinor: number;
  headerLength: number;
  generation: number;
  incompatible: number;
  readOnlyCompatible: number;
  compatible: number;
  state: number;
  diskUuid: string;
  contentId: string;
  parentUuid: string;
  parentContentId: string;
  virtualSize: number;
  blockShift: number;
  compression: number;
  provisioning: number;
  intent: number;
  intentSize: number;
  sequence: number;
  attributesOffset: number;
  attributesSlotPages: number;
  attributesSlot: number;
  attributesLength: number;
  attributesCrc: number;
  journalOffset: number;
  journalSlotPages: number;
  spacePages: number;
  spaceOffset: number;
  directoryOffset: number;
  directoryPages: number;
  directoryCapacity: number;
  dataOffset: number;
  checksumOffset: number;
  checksumPages: number;
  checksumState: number;
  createdMs: number;
  sealedMs: number;
  parentFormat: string;
  parentPathLength: number;
  snapshotNameLength: number;
  intentNameLength: number;
  groupPathLength: number;
  parentPath: Uint8Array;
  snapshotName: Uint8Array;
  intentName: Uint8Array;
  groupPath: Uint8Array;
  featureNames: Uint8Array;
  reserved: Uint8Array;
  crc: number;
}

export const headerLayout: Layout<Header> = layout<Header>('header', PAGE, {
  magic: [0, ascii(8), '"VVDIMAGE"'],
  versionMajor: [8, u16le, '1; another value is refused'],
  versionMinor: [10, u16le, '0; a higher value is accepted'],
  headerLength: [12, u32le, '4096'],
  generation: [16, u64le, 'counts header writes; the valid copy with the higher generation is the header'],
  incompatible: [24, u32le, 'features that a reader must know: bit 0 sealed, bit 1 compressed blocks'],
  readOnlyCompatible: [28, u32le, 'features that a writer must know'],
  compatible: [32, u32le, 'features that may be ignored'],
  state: [36, u32le, '1 clean, 2 dirty: the journal may hold a transaction that is not in place yet'],
  diskUuid: [40, uuid, 'identity of this layer; in every page that belongs to it'],
  contentId: [56, uuid, 'identity of the present content; renewed at the first change after an open'],
  parentUuid: [72, uuid, 'disk UUID of the layer behind; nil without one, or when it is no VVD file'],
  parentContentId: [88, uuid, 'content ID that the layer behind must have; nil without one'],
  virtualSize: [104, u64le, 'guest bytes, a multiple of 512'],
  blockShift: [112, u32le, 'log2 of the block size, 16 (64 KiB) to 22 (4 MiB)'],
  compression: [116, u32le, '0 none, 1 deflate (RFC 1951), 2 zstd (RFC 8878)'],
  provisioning: [120, u32le, '0 thin, 1 lazy, 2 thick'],
  intent: [124, u32le, '0 none, 1 trim, 2 snapshot, 3 merge, 4 delete: work under way; see Intents'],
  intentSize: [128, u64le, 'trim: guest offset from which entries are to be cleared'],
  sequence: [136, u64le, 'the last transaction that is wholly in place; only later ones are replayed'],
  attributesOffset: [144, u64le, 'place of the two attribute slots'],
  attributesSlotPages: [152, u32le, 'pages in each attribute slot, 68'],
  attributesSlot: [156, u32le, '0 or 1: the slot in use'],
  attributesLength: [160, u32le, 'bytes used of that slot'],
  attributesCrc: [164, u32le, 'CRC32C of those bytes'],
  journalOffset: [168, u64le, 'place of the two journal slots'],
  journalSlotPages: [176, u32le, 'pages in each journal slot'],
  spacePages: [180, u32le, 'pages reserved for the space list, 8'],
  spaceOffset: [184, u64le, 'place of the space list'],
  directoryOffset: [192, u64le, 'place of the table directory'],
  directoryPages: [200, u32le, 'pages of the directory in use'],
  directoryCapacity: [204, u32le, 'pages reserved for the directory'],
  dataOffset: [208, u64le, 'lowest place that blocks and table pages may have; a multiple of the block size'],
  checksumOffset: [216, u64le, 'place of the checksum pages of a sealed layer; 0 without'],
  checksumPages: [224, u32le, 'pages reserved there'],
  checksumState: [228, u32le, '0 none, 1 complete'],
  createdMs: [232, u64le, 'time of creation, milliseconds since 1970 UTC'],
  sealedMs: [240, u64le, 'time of sealing, likewise; 0 when not sealed'],
  parentFormat: [248, ascii(16), 'driver name of the layer behind, padded with NUL'],
  parentPathLength: [264, u32le, 'bytes used of parentPath'],
  snapshotNameLength: [268, u32le, 'bytes used of snapshotName'],
  intentNameLength: [272, u32le, 'bytes used of intentName'],
  groupPathLength: [276, u32le, 'bytes used of groupPath'],
  parentPath: [280, bytes(1024), 'UTF-8 path of the layer behind, relative to the folder of this file'],
  snapshotName: [1304, bytes(256), 'UTF-8 name of the snapshot that this sealed layer keeps'],
  intentName: [1560, bytes(256), 'snapshot and delete intent: UTF-8 file name of the disk'],
  groupPath: [
    1816,
    bytes(1024),
    'snapshot intent: UTF-8 path of the group record, for several disks at once; delete intent: the disk’s UUID, a space, the content ID that this layer had',
  ],
  featureNames: [
    2840,
    bytes(512),
    '16 × {set u8: 0 incompatible, 1 read-only-compatible, 2 compatible; bit u8; name ascii[30]}',
  ],
  reserved: [3352, bytes(740), 'zero'],
  crc: [4092, u32le, 'CRC32C of the page with this field zero'],
});

/** Page types. */
export const PAGE_DIRECTORY = 1;
export const PAGE_TABLE = 2;
export const PAGE_SPACE = 3;
export const PAGE_CHECKSUM = 4;
export const PAGE_JOURNAL = 5;

export const PAGE_MAGIC = 'VVDP';
export const PAGE_HEADER = 64;
export const PAGE_PAYLOAD: number = PAGE - PAGE_HEADER;

export interface PageHeader {
  magic: string;
  type: number;
  version: number;
  index: number;
  diskUuid: string;
  generation: number;
  place: number;
  reserved: Uint8Array;
  crc: number;
}

export const pageHeaderLayout: Layout<PageHeader> = layout<PageHeader>('page header', PAGE_HEADER, {
  magic: [0, ascii(4), '"VVDP"'],
  type: [4, u16le, '1 directory, 2 table, 3 space, 4 checksum, 5 journal'],
  version: [6, u16le, '1'],
  index: [8, u64le, 'which page of its kind; in the journal: the transaction’s sequence'],
  diskUuid: [16, uuid, 'the disk that the page belongs to'],
  generation: [32, u64le, 'sequence of the transaction that wrote it'],
  place: [40, u64le, 'the page’s own offset in the file'],
  reserved: [48, bytes(12), 'zero'],
  crc: [60, u32le, 'CRC32C of the page (journal: of the whole transaction) with this field zero'],
});

/** One directory entry: where a table page is, and which transaction wrote it last. */
export interface DirectoryEntry {
  place: number;
  generation: number;
}
export const directoryEntryLayout: Layout<DirectoryEntry> = layout<DirectoryEntry>('directory entry', 16, {
  place: [0, u64le, 'offset of the table page; 0: none, all its blocks are unallocated'],
  generation: [8, u64le, 'generation that the table page must carry'],
});

/** One allocation table entry; see entry.ts for its bits. */
export interface TableEntry {
  low: number;
  high: number;
  allocated: number;
  zero: number;
}
export const tableEntryLayout: Layout<TableEntry> = layout<TableEntry>('table entry', 16, {
  low: [0, u32le, 'bits 0–3 kind: 0 unallocated, 1 data, 2 compressed, 3 zero; bits 4–31 of the place'],
  high: [4, u32le, 'bits 32–52 of the place'],
  allocated: [8, u32le, 'data: sub-blocks that are stored here; compressed: stored length in bytes'],
  zero: [12, u32le, 'data: sub-blocks that read as zero; compressed: CRC32C of the stored bytes'],
});

export const ENTRY = 16;
/** Entries of a table page, and of a directory page. */
export const ENTRIES: number = PAGE_PAYLOAD / ENTRY;
export const SUB_BLOCKS = 32;

/** The fixed part of the first space page; free extents follow it and fill the other space pages. */
export interface SpaceHead {
  spaceEnd: number;
  metadataNext: number;
  metadataEnd: number;
  extentCount: number;
  reserved: number;
  directoriesWritten: Uint8Array;
}
/** Bytes of the map that says which directory pages were written; it bounds how large a disk can be. */
export const DIRECTORY_MAP_BYTES = 2560;
export const DIRECTORIES_LIMIT: number = DIRECTORY_MAP_BYTES * 8;
export const spaceHeadLayout: Layout<SpaceHead> = layout<SpaceHead>('space list head', 2592, {
  spaceEnd: [0, u64le, 'first byte past everything in use'],
  metadataNext: [8, u64le, 'next unused page in the block that table pages are taken from'],
  metadataEnd: [16, u64le, 'end of that block'],
  extentCount: [24, u32le, 'free extents listed, over all space pages'],
  reserved: [28, u32le, 'zero'],
  directoriesWritten: [
    32,
    bytes(DIRECTORY_MAP_BYTES),
    'bit i mod 8 of byte i div 8: directory page i was written; one that was not maps nothing and is not read',
  ],
});

export interface FreeExtent {
  place: number;
  length: number;
}
export const freeExtentLayout: Layout<FreeExtent> = layout<FreeExtent>('free extent', 16, {
  place: [0, u64le, 'offset, a multiple of 4096'],
  length: [8, u64le, 'bytes, a multiple of 4096'],
});
export const FREE_EXTENTS_FIRST: number = (PAGE_PAYLOAD - spaceHeadLayout.size) / freeExtentLayout.size;
export const FREE_EXTENTS_MORE: number = PAGE_PAYLOAD / freeExtentLayout.size;
export const FREE_EXTENTS_LIMIT: number = FREE_EXTENTS_FIRST + (SPACE_PAGES - 1) * FREE_EXTENTS_MORE;

/** Follows the page header of a transaction's first page; then the home offsets, 8 bytes each; then the images. */
export interface TransactionHead {
  imageCount: number;
  headPages: number;
  reserved: number;
}
export const transactionHeadLayout: Layout<TransactionHead> = layout<TransactionHead>(
  'transaction head',
  16,
  {
    imageCount: [0, u32le, 'page images in the transaction'],
    headPages: [4, u32le, 'pages before the first image: this page and more home offsets'],
    reserved: [8, u64le, 'zero'],
  },
);
export const HOME_OFFSET = 8;
/** CRC32C values of a checksum page: one for each block. */
export const CHECKSUMS: number = PAGE_PAYLOAD / 4;
