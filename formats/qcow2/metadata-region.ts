/** Places of metadata in the file: judged before anything is read there, and kept apart from each other. */
import { VimgError } from '../../src/base/errors.ts';
import { LIMITS } from '../../src/base/limits.ts';

/** A part of the file that holds metadata. In bytes. */
export interface MetadataRegion {
  /** For messages: `the L1 table`. */
  readonly what: string;
  readonly offset: number;
  readonly length: number;
}

/**
 * Turns 64 bits into an offset.
 *
 * @param fieldOffset where the field is, for the message
 * @throws VimgError `INVALID_FORMAT` for an offset that no file can have
 */
export function decodeOffset(value: bigint, what: string, fieldOffset: number): number {
  if (value <= BigInt(LIMITS.offset)) return Number(value);
  throw invalid(`${what} would be at 0x${value.toString(16)}, past the end of any file`, fieldOffset);
}

/**
 * Judges the place of a table: behind the header, cluster-aligned, inside the file (which may end inside the
 * table's last cluster).
 *
 * @throws VimgError `INVALID_FORMAT`
 */
export function checkPlace(region: MetadataRegion, clusterSize: number, fileSize: number): void {
  const { what, offset, length } = region;
  if (offset === 0) throw invalid(`${what} would be at offset 0, where the header is`, 0);
  if (offset % clusterSize !== 0) throw invalid(`${what} is at ${offset}, not on a cluster boundary`, offset);
  if (offset >= fileSize || offset + length > Math.ceil(fileSize / clusterSize) * clusterSize) {
    throw invalid(`${what}, ${length} bytes at ${offset}, passes the end of the file`, offset);
  }
}

/** @throws VimgError `INVALID_FORMAT` when two regions overlap */
export function checkApart(regions: readonly MetadataRegion[]): void {
  const sorted = [...regions].sort((a, b) => a.offset - b.offset);
  for (let i = 1; i < sorted.length; i++) {
    const before = sorted[i - 1] as MetadataRegion;
    const region = sorted[i] as MetadataRegion;
    if (before.offset + before.length > region.offset) {
      throw invalid(`${region.what} overlaps ${before.what}`, region.offset);
    }
  }
}

/** The region that a range overlaps, if any. The list is short. */
export function overlapping(
  regions: readonly MetadataRegion[],
  offset: number,
  length: number,
): MetadataRegion | undefined {
  for (const region of regions) {
    if (offset < region.offset + region.length && region.offset < offset + length) return region;
  }
  return undefined;
}

function invalid(message: string, offset: number): VimgError {
  return new VimgError('INVALID_FORMAT', message, { op: 'read qcow2 header', offset });
}
