/** Every bound that vimg sets, in one table. Each is there so that no input can make the tool crash, hang or swell. */

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const TiB = 1024 * GiB;

/** The name of a bound. */
export type LimitName =
  | 'offset'
  | 'virtualSize'
  | 'chainDepth'
  | 'snapshots'
  | 'referenceBytes'
  | 'transfer'
  | 'metadataCache'
  | 'decompressedCache'
  | 'structure';

export const LIMITS: Readonly<Record<LimitName, number>> = {
  /** Largest byte offset that a JavaScript number holds exactly; checked whenever an offset is decoded. */
  offset: Number.MAX_SAFE_INTEGER,
  /** Largest virtual size of a disk that vimg creates: 2^53 − 1 rounded down to whole TiB. */
  virtualSize: 8191 * TiB,
  /** Layers in a chain, the disk itself included. */
  chainDepth: 256,
  /** Snapshots of one disk. */
  snapshots: 1024,
  /** Bytes of a path or URI found in an image header. */
  referenceBytes: 4096,
  /** Bytes of one `pread` or `pwrite` that an engine issues. */
  transfer: 8 * MiB,
  /** Bytes of metadata cached per open layer. */
  metadataCache: 32 * MiB,
  /** Bytes of decompressed blocks cached per open disk. */
  decompressedCache: 16 * MiB,
  /** Bytes of a structure read whole into memory (an L1 table, a snapshot table, a descriptor). */
  structure: 64 * MiB,
};
