/**
 * The structures of a qcow2 file, declared (QEMU docs/interop/qcow2: "Header", "Header extensions", "Feature name
 * table", "Bitmaps extension", "Bitmap directory", "Full disk encryption header pointer", "Snapshots").
 *
 * All numbers are big endian. Offsets are decoded as 64 raw bits and turned into checked numbers by header.ts and
 * its neighbours, so that an error can name the field. The tables of the data path (L1, L2, refcount) are not here:
 * l2-table.ts and refcount.ts read them through one `DataView`.
 */
import { ascii, bits64be, u8, u16be, u32be } from '../../src/binary/field-types.ts';
import { type Layout, layout } from '../../src/binary/layout.ts';

/** `QFI\xfb`. */
export const QCOW2_MAGIC = 0x514649fb;

/** Bytes of the header of version 2, and of the smallest one of version 3. */
export const HEADER_LENGTH_V2 = 72;
export const HEADER_LENGTH_V3 = 104;
/** Bytes of the header that we write for version 3: up to `compression_type` and its padding. */
export const HEADER_LENGTH_WRITTEN = 112;

/** The part of the header that both versions have. */
export interface HeaderBase {
  magic: number;
  version: number;
  backingFileOffset: bigint;
  backingFileSize: number;
  clusterBits: number;
  size: bigint;
  cryptMethod: number;
  l1Size: number;
  l1TableOffset: bigint;
  refcountTableOffset: bigint;
  refcountTableClusters: number;
  snapshotCount: number;
  snapshotsOffset: bigint;
}

export const headerBaseLayout: Layout<HeaderBase> = layout<HeaderBase>('qcow2 header', HEADER_LENGTH_V2, {
  magic: [0, u32be, 'QFI\\xfb'],
  version: [4, u32be, '2 or 3'],
  backingFileOffset: [8, bits64be, 'where the name of the backing file is; 0: there is none'],
  backingFileSize: [16, u32be, 'bytes of that name, at most 1023'],
  clusterBits: [20, u32be, 'the cluster size is 2^clusterBits; 9 to 21'],
  size: [24, bits64be, 'virtual size in bytes'],
  cryptMethod: [32, u32be, '0 none, 1 AES, 2 LUKS'],
  l1Size: [36, u32be, 'entries of the active L1 table'],
  l1TableOffset: [40, bits64be, 'where the active L1 table starts'],
  refcountTableOffset: [48, bits64be, 'where the refcount table starts'],
  refcountTableClusters: [56, u32be, 'clusters of the refcount table'],
  snapshotCount: [60, u32be, 'internal snapshots'],
  snapshotsOffset: [64, bits64be, 'where the snapshot table starts'],
});

/** What version 3 adds. */
export interface HeaderFeatures {
  incompatibleFeatures: bigint;
  compatibleFeatures: bigint;
  autoclearFeatures: bigint;
  refcountOrder: number;
  headerLength: number;
}

export const headerFeaturesLayout: Layout<HeaderFeatures> = layout<HeaderFeatures>(
  'qcow2 header, version 3',
  32,
  {
    incompatibleFeatures: [0, bits64be, 'an unknown bit means: do not open'],
    compatibleFeatures: [8, bits64be, 'unknown bits are ignored'],
    autoclearFeatures: [16, bits64be, 'a writer clears the bits it does not know'],
    refcountOrder: [24, u32be, 'a refcount has 2^refcountOrder bits; 0 to 6'],
    headerLength: [28, u32be, 'bytes of the header, a multiple of 8; extensions follow'],
  },
);

/** Incompatible feature bits. */
export const INCOMPATIBLE_DIRTY: bigint = 1n << 0n;
export const INCOMPATIBLE_CORRUPT: bigint = 1n << 1n;
export const INCOMPATIBLE_DATA_FILE: bigint = 1n << 2n;
export const INCOMPATIBLE_COMPRESSION: bigint = 1n << 3n;
export const INCOMPATIBLE_EXTENDED_L2: bigint = 1n << 4n;
export const INCOMPATIBLE_KNOWN: bigint =
  INCOMPATIBLE_DIRTY |
  INCOMPATIBLE_CORRUPT |
  INCOMPATIBLE_DATA_FILE |
  INCOMPATIBLE_COMPRESSION |
  INCOMPATIBLE_EXTENDED_L2;
/** Compatible feature bit: refcounts may be written late, under the dirty bit. */
export const COMPATIBLE_LAZY_REFCOUNTS: bigint = 1n << 0n;
/** Autoclear feature bits. */
export const AUTOCLEAR_BITMAPS: bigint = 1n << 0n;
export const AUTOCLEAR_RAW_DATA: bigint = 1n << 1n;

/** Where a version 3 header keeps the compression type, when it is long enough. */
export const COMPRESSION_TYPE_OFFSET = 104;

/** The head of a header extension. */
export interface ExtensionHead {
  type: number;
  length: number;
}

export const extensionHeadLayout: Layout<ExtensionHead> = layout<ExtensionHead>('qcow2 header extension', 8, {
  type: [0, u32be, 'what the extension holds; 0 ends the list'],
  length: [4, u32be, 'bytes that follow, without the padding to 8'],
});

export const EXTENSION_END = 0;
export const EXTENSION_BACKING_FORMAT = 0xe2792aca;
export const EXTENSION_FEATURE_NAMES = 0x6803f857;
export const EXTENSION_BITMAPS = 0x23852875;
export const EXTENSION_ENCRYPTION = 0x0537be77;
export const EXTENSION_DATA_FILE = 0x44415441;

/** One entry of the feature name table. */
export interface FeatureName {
  kind: number;
  bit: number;
  name: string;
}

export const featureNameLayout: Layout<FeatureName> = layout<FeatureName>('qcow2 feature name', 48, {
  kind: [0, u8, '0 incompatible, 1 compatible, 2 autoclear'],
  bit: [1, u8, 'bit number'],
  name: [2, ascii(46), 'padded with zeroes'],
});

/** The bitmaps extension. */
export interface BitmapsExtension {
  count: number;
  reserved: number;
  directorySize: bigint;
  directoryOffset: bigint;
}

export const bitmapsExtensionLayout: Layout<BitmapsExtension> = layout<BitmapsExtension>(
  'qcow2 bitmaps',
  24,
  {
    count: [0, u32be, 'bitmaps in the image, at least 1'],
    reserved: [4, u32be, '0'],
    directorySize: [8, bits64be, 'bytes of the bitmap directory'],
    directoryOffset: [16, bits64be, 'where the bitmap directory starts'],
  },
);

/** The fixed part of an entry of the bitmap directory; extra data, the name and padding to 8 follow. */
export interface BitmapEntry {
  tableOffset: bigint;
  tableSize: number;
  flags: number;
  type: number;
  granularityBits: number;
  nameSize: number;
  extraDataSize: number;
}

export const bitmapEntryLayout: Layout<BitmapEntry> = layout<BitmapEntry>(
  'qcow2 bitmap directory entry',
  24,
  {
    tableOffset: [0, bits64be, 'where the bitmap table starts'],
    tableSize: [8, u32be, 'entries of the bitmap table'],
    flags: [12, u32be, '1 in use, 2 auto, 4 extra data is compatible'],
    type: [16, u8, '1: dirty tracking'],
    granularityBits: [17, u8, 'a bit stands for 2^granularityBits guest bytes'],
    nameSize: [18, u16be, 'bytes of the name'],
    extraDataSize: [20, u32be, 'bytes between this and the name'],
  },
);

/** Where the LUKS header is. */
export interface EncryptionPointer {
  offset: bigint;
  length: bigint;
}

export const encryptionPointerLayout: Layout<EncryptionPointer> = layout<EncryptionPointer>(
  'qcow2 encryption',
  16,
  {
    offset: [0, bits64be, 'where the encryption header starts'],
    length: [8, bits64be, 'its bytes'],
  },
);

/** The fixed part of an entry of the snapshot table; extra data, ID, name and padding to 8 follow. */
export interface SnapshotEntry {
  l1TableOffset: bigint;
  l1Size: number;
  idSize: number;
  nameSize: number;
  dateSeconds: number;
  dateNanoseconds: number;
  vmClockNanoseconds: bigint;
  vmStateSize: number;
  extraDataSize: number;
}

export const snapshotEntryLayout: Layout<SnapshotEntry> = layout<SnapshotEntry>('qcow2 snapshot', 40, {
  l1TableOffset: [0, bits64be, 'where the L1 table of the snapshot starts'],
  l1Size: [8, u32be, 'its entries'],
  idSize: [12, u16be, 'bytes of the ID'],
  nameSize: [14, u16be, 'bytes of the name'],
  dateSeconds: [16, u32be, 'when it was taken, seconds since the epoch'],
  dateNanoseconds: [20, u32be, 'and nanoseconds'],
  vmClockNanoseconds: [24, bits64be, 'how long the guest had run'],
  vmStateSize: [32, u32be, 'bytes of VM state, unless the extra data says it'],
  extraDataSize: [36, u32be, 'bytes of extra data that follow'],
});

/** The extra data that is defined. */
export interface SnapshotExtra {
  vmStateSize: bigint;
  virtualSize: bigint;
  icount: bigint;
}

export const snapshotExtraLayout: Layout<SnapshotExtra> = layout<SnapshotExtra>(
  'qcow2 snapshot, extra data',
  24,
  {
    vmStateSize: [0, bits64be, 'bytes of VM state'],
    virtualSize: [8, bits64be, 'virtual size of the disk in the snapshot'],
    icount: [16, bits64be, 'instructions executed when it was taken; all ones: not counted'],
  },
);

/** Every layout of the format: SPEC.md has a table of each, and a test compares them. */
export const QCOW2_LAYOUTS: readonly Layout<object>[] = [
  headerBaseLayout as Layout<object>,
  headerFeaturesLayout as Layout<object>,
  extensionHeadLayout as Layout<object>,
  featureNameLayout as Layout<object>,
  bitmapsExtensionLayout as Layout<object>,
  bitmapEntryLayout as Layout<object>,
  encryptionPointerLayout as Layout<object>,
  snapshotEntryLayout as Layout<object>,
  snapshotExtraLayout as Layout<object>,
];
