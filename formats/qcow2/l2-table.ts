/**
 * L1 and L2 entries (QEMU docs/interop/qcow2, "Cluster mapping" and "Extended L2 Entries").
 *
 * An L2 table is held as one `DataView`; entries are read as two 32-bit halves, never as BigInt: this is the data
 * path. An L2 entry, high half first:
 *
 *     63      62          61..56    55 .. 9               8..1      0
 *     copied  compressed  reserved  host offset           reserved  reads as zeroes (standard clusters, version 3)
 *     copied  1           sectors and host offset, split at a bit that the cluster size decides (compressed clusters)
 *
 * With extended entries a second word follows: bits 0..31 say which of 32 subclusters are allocated, bits 32..63
 * which read as zeroes.
 */

/** Masks of the high half of an entry. */
export const HIGH_COPIED = 0x8000_0000;
export const HIGH_COMPRESSED = 0x4000_0000;
/** Bits 56..61: reserved in a standard cluster's entry. */
export const HIGH_RESERVED = 0x3f00_0000;
/** Bits 32..55. */
export const HIGH_OFFSET = 0x00ff_ffff;
/** Masks of the low half. */
export const LOW_OFFSET = 0xffff_fe00;
/** Bits 1..8: reserved in a standard cluster's entry. */
export const LOW_RESERVED = 0x0000_01fe;
export const LOW_ZERO = 0x0000_0001;
/** L1 entries: bits 56..62 and 0..8 are reserved. */
export const L1_HIGH_RESERVED = 0x7f00_0000;
export const L1_LOW_RESERVED = 0x0000_01ff;

export const SUBCLUSTERS = 32;

const TWO_POW_32 = 0x1_0000_0000;

/** What an L2 entry says of a cluster. */
export const CLUSTER_UNALLOCATED = 0;
export const CLUSTER_ZERO = 1;
/** Reads as zeroes, and has a place all the same. */
export const CLUSTER_ZERO_ALLOCATED = 2;
export const CLUSTER_DATA = 3;
export const CLUSTER_COMPRESSED = 4;
/** The entry breaks the specification; {@link describeBadEntry} says how. */
export const CLUSTER_BAD = 5;

export type ClusterKind =
  | typeof CLUSTER_UNALLOCATED
  | typeof CLUSTER_ZERO
  | typeof CLUSTER_ZERO_ALLOCATED
  | typeof CLUSTER_DATA
  | typeof CLUSTER_COMPRESSED
  | typeof CLUSTER_BAD;

/** What decides how entries are read. */
export interface EntryRules {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly extendedL2: boolean;
  /** Guest data lives in an external data file, at its guest offset. */
  readonly externalData: boolean;
}

/** Host offset of a standard cluster, or of an L2 table in an L1 entry. Past 2^53 it is no longer exact, but still huge. */
export function hostOffset(high: number, low: number): number {
  return (high & HIGH_OFFSET) * TWO_POW_32 + ((low & LOW_OFFSET) >>> 0);
}

/** Whether the offset in an entry lies off the cluster boundary. Clusters have at most 2 MiB: the low half decides. */
export function isMisaligned(low: number, clusterSize: number): boolean {
  return (low & LOW_OFFSET & (clusterSize - 1)) !== 0;
}

/** Judges a standard (not extended) entry. `guestOffset` is that of the cluster. */
export function standardKind(high: number, low: number, rules: EntryRules): ClusterKind {
  if ((high & HIGH_COMPRESSED) !== 0) return rules.externalData ? CLUSTER_BAD : CLUSTER_COMPRESSED;
  if ((high & HIGH_RESERVED) !== 0 || (low & LOW_RESERVED) !== 0) return CLUSTER_BAD;
  const zero = (low & LOW_ZERO) !== 0;
  if (zero && rules.version < 3) return CLUSTER_BAD;
  const offset = hostOffset(high, low);
  // Offset 0 with the copied bit is a place in an external data file, and nonsense elsewhere.
  if (offset === 0 && (high & HIGH_COPIED) !== 0 && !rules.externalData && !zero) return CLUSTER_BAD;
  const allocated = offset !== 0 || ((high & HIGH_COPIED) !== 0 && rules.externalData);
  if (!allocated) return zero ? CLUSTER_ZERO : CLUSTER_UNALLOCATED;
  if (isMisaligned(low, rules.clusterSize)) return CLUSTER_BAD;
  return zero ? CLUSTER_ZERO_ALLOCATED : CLUSTER_DATA;
}

/** Judges one subcluster of an extended entry whose words are `high`, `low`, `zeroBits`, `allocatedBits`. */
export function subclusterKind(
  high: number,
  low: number,
  zeroBits: number,
  allocatedBits: number,
  subcluster: number,
  rules: EntryRules,
): ClusterKind {
  if ((high & HIGH_COMPRESSED) !== 0) {
    return rules.externalData || (zeroBits | allocatedBits) !== 0 ? CLUSTER_BAD : CLUSTER_COMPRESSED;
  }
  if ((high & HIGH_RESERVED) !== 0 || (low & (LOW_RESERVED | LOW_ZERO)) !== 0) return CLUSTER_BAD;
  if ((zeroBits & allocatedBits) !== 0) return CLUSTER_BAD;
  const offset = hostOffset(high, low);
  if (isMisaligned(low, rules.clusterSize)) return CLUSTER_BAD;
  const placed = offset !== 0 || ((high & HIGH_COPIED) !== 0 && rules.externalData);
  if (!placed && allocatedBits !== 0) return CLUSTER_BAD;
  if (((zeroBits >>> subcluster) & 1) !== 0) return placed ? CLUSTER_ZERO_ALLOCATED : CLUSTER_ZERO;
  return ((allocatedBits >>> subcluster) & 1) !== 0 ? CLUSTER_DATA : CLUSTER_UNALLOCATED;
}

/** What is wrong with an entry that is {@link CLUSTER_BAD}, for the error message. */
export function describeBadEntry(
  high: number,
  low: number,
  zeroBits: number,
  allocatedBits: number,
  rules: EntryRules,
): string {
  const offset = hostOffset(high, low);
  if ((high & HIGH_COMPRESSED) !== 0) {
    return rules.externalData
      ? 'it is compressed although the data lives in an external file'
      : 'it is compressed and has a subcluster bitmap';
  }
  if ((high & HIGH_RESERVED) !== 0 || (low & LOW_RESERVED) !== 0) return 'reserved bits are set';
  if ((low & LOW_ZERO) !== 0) {
    if (rules.version < 3) return 'the zero bit is set in an image of version 2';
    if (rules.extendedL2) return 'the zero bit is set in an extended entry';
  }
  if (isMisaligned(low, rules.clusterSize)) return `its offset ${offset} is not on a cluster boundary`;
  if ((zeroBits & allocatedBits) !== 0) return 'a subcluster is both allocated and zero';
  return 'it is allocated at offset 0, where the header is';
}

/** Where a compressed cluster lies. The end is exact to a sector only: spec, "Compressed Clusters Descriptor". */
export interface CompressedPlace {
  readonly offset: number;
  readonly length: number;
}

/** Decodes a compressed cluster's entry. The offset has `62 − (clusterBits − 8)` bits. */
export function compressedPlace(high: number, low: number, clusterBits: number): CompressedPlace {
  // The split lies at bit 49 (2 MiB clusters) or above, so always in the high half.
  const highOffsetBits = 62 - (clusterBits - 8) - 32;
  const descriptor = (high & 0x3fff_ffff) >>> 0;
  const sectors = descriptor >>> highOffsetBits;
  const offset = (descriptor & (2 ** highOffsetBits - 1)) * TWO_POW_32 + (low >>> 0);
  return { offset, length: (sectors + 1) * 512 - (offset % 512) };
}

/** The two halves of a compressed cluster's entry. */
export function encodeCompressed(
  offset: number,
  length: number,
  clusterBits: number,
): { high: number; low: number } {
  const highOffsetBits = 62 - (clusterBits - 8) - 32;
  const sectors = Math.floor((offset + length - 1) / 512) - Math.floor(offset / 512);
  const high = (HIGH_COMPRESSED | (sectors << highOffsetBits) | Math.floor(offset / TWO_POW_32)) >>> 0;
  return { high, low: offset >>> 0 };
}

/** Highest offset that a compressed cluster's entry can hold, exclusive. At most 56 bits are used. */
export function compressedOffsetEnd(clusterBits: number): number {
  return 2 ** Math.min(56, 62 - (clusterBits - 8));
}
