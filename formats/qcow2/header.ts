/**
 * The qcow2 header: read, and judged before anything is believed (QEMU docs/interop/qcow2, "Header").
 *
 * Invariants of a header that {@link readHeader} returns: every table lies cluster-aligned inside the file, behind
 * the header cluster, apart from the other tables, and is small enough to be read whole; the L1 table covers the
 * virtual size; no unknown incompatible bit is set. Nothing is allocated from a length that was not checked.
 */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import {
  decodeName,
  type HeaderExtensions,
  NO_EXTENSIONS,
  nameFeatures,
  readExtensions,
} from './header-extensions.ts';
import {
  type CompressionType,
  decodeCompressionType,
  decodeEncryption,
  decodeVirtualSize,
  invalid,
  tooLarge,
  unsupported,
} from './header-fields.ts';
import {
  AUTOCLEAR_BITMAPS,
  AUTOCLEAR_RAW_DATA,
  COMPATIBLE_LAZY_REFCOUNTS,
  EXTENSION_END,
  extensionHeadLayout,
  HEADER_LENGTH_V2,
  HEADER_LENGTH_V3,
  type HeaderBase,
  type HeaderFeatures,
  headerBaseLayout,
  headerFeaturesLayout,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_DIRTY,
  INCOMPATIBLE_EXTENDED_L2,
  INCOMPATIBLE_KNOWN,
  QCOW2_MAGIC,
} from './layout.ts';
import { checkApart, checkPlace, decodeOffset, type MetadataRegion } from './metadata-region.ts';

/** Limits that QEMU has too (spec, notes on `cluster_bits`, `size` and "Host cluster management"). */
export const CLUSTER_BITS_MIN = 9;
export const CLUSTER_BITS_MAX = 21;
export const CLUSTER_BITS_MIN_EXTENDED_L2 = 14;
export const L1_TABLE_BYTES_MAX: number = 32 * 1024 * 1024;
export const REFCOUNT_TABLE_BYTES_MAX: number = 8 * 1024 * 1024;
export const BACKING_NAME_BYTES_MAX = 1023;

/** What is read in one go: enough for the header and the extensions of any ordinary image. */
const FIRST_READ = 4096;

/** A header that was judged. Offsets and sizes are bytes. */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly headerLength: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly virtualSize: number;
  readonly l1Size: number;
  readonly l1TableOffset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountBits: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly compressionType: CompressionType;
  readonly encryption: 'aes' | 'luks' | undefined;
  /** Guest data lives in another file. Its name may be missing. */
  readonly dataFile: { readonly name: string | undefined; readonly raw: boolean } | undefined;
  readonly backing: { readonly path: string; readonly format: string | undefined } | undefined;
  /** The bitmaps extension is there and says that it is consistent. */
  readonly bitmapsConsistent: boolean;
  readonly extensions: HeaderExtensions;
}

/** L2 entries of one table. */
export function l2EntriesPerTable(header: Pick<Qcow2Header, 'clusterSize' | 'extendedL2'>): number {
  return header.clusterSize / (header.extendedL2 ? 16 : 8);
}

/**
 * Reads and judges the header of `file`. Reads at most the first cluster.
 *
 * @param options.allowEncrypted let an encrypted image through, for `info`
 * @throws VimgError `INVALID_FORMAT` for what breaks the format, `UNSUPPORTED` for encryption, versions and feature
 *   bits that we do not know, `LIMIT` for what is too large
 */
export async function readHeader(
  file: BlockDevice,
  options: { readonly allowEncrypted: boolean } = { allowEncrypted: false },
): Promise<Qcow2Header> {
  try {
    const head = await readStart(file, FIRST_READ);
    const base = decodeBase(head);
    const clusterSize = 2 ** base.clusterBits;
    const features = base.version === 2 ? FEATURES_OF_V2 : decodeFeatures(head, clusterSize);
    const extensionEnd = checkBackingPlace(base, features.headerLength, clusterSize);
    const areaEnd = base.backingFileOffset === 0n ? extensionEnd : extensionEnd + base.backingFileSize;
    const whole =
      areaEnd <= head.length || (base.backingFileOffset === 0n && extensionsEndIn(head, features));
    const area = whole ? head : await readStart(file, areaEnd);
    const extensions = tryReadExtensions(area.subarray(0, extensionEnd), features);
    checkFeatures(features, extensions);
    const header = assemble(base, features, extensions, area);
    if (header.encryption !== undefined && !options.allowEncrypted) {
      throw unsupported(`the image is encrypted (${header.encryption.toUpperCase()})`);
    }
    checkTables(header, file.size);
    return header;
  } catch (error) {
    throw withPath(error, file.name);
  }
}

const FEATURES_OF_V2: HeaderFeatures = {
  incompatibleFeatures: 0n,
  compatibleFeatures: 0n,
  autoclearFeatures: 0n,
  refcountOrder: 4,
  headerLength: HEADER_LENGTH_V2,
};

async function readStart(file: BlockDevice, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.min(length, file.size));
  await file.pread(bytes, 0);
  return bytes;
}

function decodeBase(head: Uint8Array): HeaderBase {
  const base = headerBaseLayout.decode(head);
  if (base.magic !== QCOW2_MAGIC) throw invalid('this is not a qcow2 image: the magic is missing', 0);
  if (base.version !== 2 && base.version !== 3) {
    throw unsupported(`qcow2 version ${base.version} is not known; 2 and 3 are`);
  }
  if (base.clusterBits < CLUSTER_BITS_MIN || base.clusterBits > 63) {
    throw invalid(
      `cluster_bits is ${base.clusterBits}; the smallest cluster has 2^${CLUSTER_BITS_MIN} bytes`,
      20,
    );
  }
  if (base.clusterBits > CLUSTER_BITS_MAX) {
    throw unsupported(`clusters of 2^${base.clusterBits} bytes; the largest have 2^${CLUSTER_BITS_MAX}`);
  }
  return base;
}

function decodeFeatures(head: Uint8Array, clusterSize: number): HeaderFeatures {
  if (head.length < HEADER_LENGTH_V3) throw invalid(`the header is cut short: ${head.length} bytes`, 0);
  const features = headerFeaturesLayout.decode(head, HEADER_LENGTH_V2);
  const { headerLength, refcountOrder } = features;
  if (headerLength < HEADER_LENGTH_V3 || headerLength % 8 !== 0 || headerLength > clusterSize) {
    throw invalid(
      `header_length is ${headerLength}; it must be a multiple of 8 from 104 to the cluster size`,
      100,
    );
  }
  if (refcountOrder > 6) throw invalid(`refcount_order is ${refcountOrder}; the largest is 6`, 96);
  return features;
}

/** Judges where the name of the backing file is, and returns where header extensions must end. */
function checkBackingPlace(base: HeaderBase, headerLength: number, clusterSize: number): number {
  if (base.backingFileOffset === 0n) return clusterSize;
  const offset = Number(base.backingFileOffset);
  if (offset < headerLength || base.backingFileOffset > BigInt(clusterSize)) {
    throw invalid(
      `the name of the backing file is at ${base.backingFileOffset}, outside the first cluster`,
      8,
    );
  }
  if (base.backingFileSize > Math.min(BACKING_NAME_BYTES_MAX, clusterSize - offset)) {
    throw invalid(
      `the name of the backing file has ${base.backingFileSize} bytes; it must fit the first cluster`,
      16,
    );
  }
  return offset;
}

/** Whether the list of extensions ends inside what was read first, so that nothing more has to be read. */
function extensionsEndIn(head: Uint8Array, features: HeaderFeatures): boolean {
  let at = features.headerLength;
  while (at + extensionHeadLayout.size <= head.length) {
    const { type, length } = extensionHeadLayout.decode(head, at);
    if (type === EXTENSION_END) return true;
    at += extensionHeadLayout.size + Math.ceil(length / 8) * 8;
  }
  return false;
}

/** With unknown features set the extensions may be anything: then only the unknown features are worth a message. */
function tryReadExtensions(area: Uint8Array, features: HeaderFeatures): HeaderExtensions {
  try {
    return readExtensions(area, features.headerLength);
  } catch (error) {
    if ((features.incompatibleFeatures & ~INCOMPATIBLE_KNOWN) !== 0n) return NO_EXTENSIONS;
    throw error;
  }
}

function checkFeatures(features: HeaderFeatures, extensions: HeaderExtensions): void {
  const unknown = features.incompatibleFeatures & ~INCOMPATIBLE_KNOWN;
  if (unknown === 0n) return;
  const names = nameFeatures(unknown, 0, extensions.featureNames);
  throw unsupported(`the image needs features that vimg does not know: ${names.join(', ')}`);
}

function assemble(
  base: HeaderBase,
  features: HeaderFeatures,
  extensions: HeaderExtensions,
  area: Uint8Array,
): Qcow2Header {
  const clusterSize = 2 ** base.clusterBits;
  const incompatible = (bit: bigint): boolean => (features.incompatibleFeatures & bit) !== 0n;
  const extendedL2 = incompatible(INCOMPATIBLE_EXTENDED_L2);
  if (extendedL2 && base.clusterBits < CLUSTER_BITS_MIN_EXTENDED_L2) {
    throw invalid('extended L2 entries need clusters of at least 16 KiB', 20);
  }
  const raw = (features.autoclearFeatures & AUTOCLEAR_RAW_DATA) !== 0n;
  const hasDataFile = incompatible(INCOMPATIBLE_DATA_FILE);
  if (raw && !hasDataFile) throw invalid('the raw data file bit is set without a data file', 88);
  const backing = readBacking(base, extensions, area);
  if (raw && backing) throw invalid('a raw data file and a backing file exclude each other', 88);
  const bitmapsConsistent = (features.autoclearFeatures & AUTOCLEAR_BITMAPS) !== 0n;
  if (bitmapsConsistent && extensions.bitmaps === undefined) {
    throw invalid('the bitmaps bit is set without the bitmaps extension', 88);
  }
  return {
    version: base.version as 2 | 3,
    headerLength: features.headerLength,
    clusterBits: base.clusterBits,
    clusterSize,
    virtualSize: decodeVirtualSize(base.size),
    l1Size: base.l1Size,
    l1TableOffset: decodeOffset(base.l1TableOffset, 'the L1 table', 40),
    refcountTableOffset: decodeOffset(base.refcountTableOffset, 'the refcount table', 48),
    refcountTableClusters: base.refcountTableClusters,
    refcountBits: 2 ** features.refcountOrder,
    snapshotCount: base.snapshotCount,
    snapshotsOffset:
      base.snapshotCount === 0 ? 0 : decodeOffset(base.snapshotsOffset, 'the snapshot table', 64),
    dirty: incompatible(INCOMPATIBLE_DIRTY),
    corrupt: incompatible(INCOMPATIBLE_CORRUPT),
    lazyRefcounts: (features.compatibleFeatures & COMPATIBLE_LAZY_REFCOUNTS) !== 0n,
    extendedL2,
    compressionType: decodeCompressionType(features, area),
    encryption: decodeEncryption(base.cryptMethod),
    dataFile: hasDataFile ? { name: extensions.dataFile, raw } : undefined,
    backing,
    bitmapsConsistent,
    extensions,
  };
}

function readBacking(
  base: HeaderBase,
  extensions: HeaderExtensions,
  area: Uint8Array,
): Qcow2Header['backing'] {
  if (base.backingFileOffset === 0n || base.backingFileSize === 0) return undefined;
  const offset = Number(base.backingFileOffset);
  const name = area.subarray(offset, offset + base.backingFileSize);
  if (name.length < base.backingFileSize)
    throw invalid('the name of the backing file passes the end of the file', 8);
  return { path: decodeName(name, 'the name of the backing file'), format: extensions.backingFormat };
}

/** The structures whose places the header fixes, apart from the snapshot table, whose length it does not say. */
export function headerRegions(header: Qcow2Header): MetadataRegion[] {
  const { clusterSize } = header;
  const regions: MetadataRegion[] = [{ what: 'the header', offset: 0, length: clusterSize }];
  if (header.l1Size > 0) {
    regions.push({ what: 'the L1 table', offset: header.l1TableOffset, length: header.l1Size * 8 });
  }
  regions.push({
    what: 'the refcount table',
    offset: header.refcountTableOffset,
    length: header.refcountTableClusters * clusterSize,
  });
  return regions;
}

function checkTables(header: Qcow2Header, fileSize: number): void {
  const { clusterSize, l1Size, virtualSize } = header;
  if (l1Size * 8 > L1_TABLE_BYTES_MAX) throw tooLarge(`the L1 table has ${l1Size} entries`, 36);
  if (l1Size < Math.ceil(virtualSize / (clusterSize * l2EntriesPerTable(header)))) {
    throw invalid(`the L1 table has ${l1Size} entries, too few for a disk of ${virtualSize} bytes`, 36);
  }
  if (header.refcountTableClusters === 0) throw invalid('there is no refcount table', 56);
  if (header.refcountTableClusters * clusterSize > REFCOUNT_TABLE_BYTES_MAX) {
    throw tooLarge(`the refcount table has ${header.refcountTableClusters} clusters`, 56);
  }
  if (header.snapshotCount > LIMITS.snapshots) throw tooLarge(`${header.snapshotCount} snapshots`, 60);
  const regions = headerRegions(header);
  if (header.snapshotCount > 0) {
    regions.push({ what: 'the snapshot table', offset: header.snapshotsOffset, length: 1 });
  }
  for (const region of regions.slice(1)) checkPlace(region, clusterSize, fileSize);
  checkApart(regions);
}

/** The same error, saying which file it is about. */
export function withPath(error: unknown, path: string): unknown {
  if (!(error instanceof VimgError) || error.path !== undefined) return error;
  return new VimgError(error.code, error.message, {
    path,
    op: error.op ?? 'read qcow2 header',
    ...(error.offset === undefined ? {} : { offset: error.offset }),
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.cause === undefined ? {} : { cause: error.cause }),
  });
}
