/** The first cluster of a new image: header, extensions, name of the backing file. */
import { VimgError } from '../../src/base/errors.ts';
import type { Qcow2CreateOptions } from './create-options.ts';
import { BACKING_NAME_BYTES_MAX } from './header.ts';
import {
  COMPATIBLE_LAZY_REFCOUNTS,
  COMPRESSION_TYPE_OFFSET,
  EXTENSION_BACKING_FORMAT,
  EXTENSION_END,
  EXTENSION_FEATURE_NAMES,
  extensionHeadLayout,
  type FeatureName,
  featureNameLayout,
  HEADER_LENGTH_V2,
  HEADER_LENGTH_V3,
  HEADER_LENGTH_WRITTEN,
  headerBaseLayout,
  headerFeaturesLayout,
  INCOMPATIBLE_COMPRESSION,
  INCOMPATIBLE_EXTENDED_L2,
  QCOW2_MAGIC,
} from './layout.ts';

/** What the header of a new image says. Offsets and sizes are bytes. */
export interface NewHeader {
  readonly options: Qcow2CreateOptions;
  readonly virtualSize: number;
  readonly backing: { readonly path: string; readonly format: string | undefined } | undefined;
  readonly l1Size: number;
  readonly l1TableOffset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
}

/** Names of the features that an image of ours may have, for tools that do not know them. */
const FEATURE_NAMES: readonly FeatureName[] = [
  { kind: 0, bit: 0, name: 'dirty bit' },
  { kind: 0, bit: 1, name: 'corrupt bit' },
  { kind: 0, bit: 2, name: 'external data file' },
  { kind: 0, bit: 3, name: 'compression type' },
  { kind: 0, bit: 4, name: 'extended L2 entries' },
  { kind: 1, bit: 0, name: 'lazy refcounts' },
];

/**
 * Encodes the first cluster.
 *
 * @throws VimgError `USAGE` when the name of the backing file does not fit
 */
export function encodeFirstCluster(header: NewHeader): Uint8Array {
  const { options } = header;
  const cluster = new Uint8Array(options.clusterSize);
  const name = Buffer.from(header.backing?.path ?? '', 'utf8');
  let at = encodeFixed(header, cluster);
  if (header.backing?.format !== undefined) {
    at = putExtension(cluster, at, EXTENSION_BACKING_FORMAT, Buffer.from(header.backing.format, 'utf8'));
  }
  if (options.version === 3) {
    const table = new Uint8Array(FEATURE_NAMES.length * featureNameLayout.size);
    FEATURE_NAMES.forEach((entry, index) => {
      featureNameLayout.encode(entry, table, index * featureNameLayout.size);
    });
    // The table is a courtesy: where the first cluster is small the name of the backing file goes first.
    const room = cluster.length - at - 2 * extensionHeadLayout.size - name.length;
    if (table.length <= room) at = putExtension(cluster, at, EXTENSION_FEATURE_NAMES, table);
  }
  at = putExtension(cluster, at, EXTENSION_END, new Uint8Array(0));
  if (name.length > 0) {
    if (name.length > BACKING_NAME_BYTES_MAX || at + name.length > cluster.length)
      throw nameTooLong(name.length);
    cluster.set(name, at);
    const view = new DataView(cluster.buffer);
    view.setUint32(12, at);
    view.setUint32(16, name.length);
  }
  return cluster;
}

function encodeFixed(header: NewHeader, cluster: Uint8Array): number {
  const { options } = header;
  headerBaseLayout.encode(
    {
      magic: QCOW2_MAGIC,
      version: options.version,
      backingFileOffset: 0n,
      backingFileSize: 0,
      clusterBits: options.clusterBits,
      size: BigInt(header.virtualSize),
      cryptMethod: 0,
      l1Size: header.l1Size,
      l1TableOffset: BigInt(header.l1TableOffset),
      refcountTableOffset: BigInt(header.refcountTableOffset),
      refcountTableClusters: header.refcountTableClusters,
      snapshotCount: 0,
      snapshotsOffset: 0n,
    },
    cluster,
  );
  if (options.version === 2) return HEADER_LENGTH_V2;
  const zstd = options.compressionType === 'zstd';
  headerFeaturesLayout.encode(
    {
      incompatibleFeatures:
        (zstd ? INCOMPATIBLE_COMPRESSION : 0n) | (options.extendedL2 ? INCOMPATIBLE_EXTENDED_L2 : 0n),
      compatibleFeatures: options.lazyRefcounts ? COMPATIBLE_LAZY_REFCOUNTS : 0n,
      autoclearFeatures: 0n,
      refcountOrder: Math.log2(options.refcountBits),
      headerLength: zstd ? HEADER_LENGTH_WRITTEN : HEADER_LENGTH_V3,
    },
    cluster,
    HEADER_LENGTH_V2,
  );
  if (!zstd) return HEADER_LENGTH_V3;
  cluster[COMPRESSION_TYPE_OFFSET] = 1;
  return HEADER_LENGTH_WRITTEN;
}

/** Writes one extension and returns where the next one goes. */
function putExtension(cluster: Uint8Array, at: number, type: number, data: Uint8Array): number {
  const end = at + extensionHeadLayout.size + data.length;
  if (end > cluster.length) throw nameTooLong(data.length);
  extensionHeadLayout.encode({ type, length: data.length }, cluster, at);
  cluster.set(data, at + extensionHeadLayout.size);
  return Math.ceil(end / 8) * 8;
}

function nameTooLong(length: number): VimgError {
  return new VimgError('USAGE', `the name of the backing file (${length} bytes) does not fit the header`, {
    op: 'create',
    hint: `use a shorter name, at most ${BACKING_NAME_BYTES_MAX} bytes, or larger clusters`,
  });
}
