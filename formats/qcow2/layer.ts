/**
 * An opened qcow2 image, or one of its internal snapshots, as a layer. cluster-map.ts says where guest ranges live.
 *
 * The layer is read-only: vimg writes new qcow2 images (writer.ts) and does not change existing ones.
 */
import { invariant, VimgError } from '../../src/base/errors.ts';
import type { MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import {
  type BackingReference,
  COMPRESSED,
  type Layer,
  type LayerInfo,
  type Location,
} from '../../src/image/layer.ts';
import { describeBitmaps, readBitmapDirectory } from './bitmap-directory.ts';
import { ClusterMap, type ClusterMapParts } from './cluster-map.ts';
import { decompressCluster } from './compressed-cluster.ts';
import type { Qcow2Header } from './header.ts';
import { type Qcow2Snapshot, snapshotInfo } from './snapshot-table.ts';

/** What driver.ts gathered before the layer is made. */
export interface Qcow2LayerParts extends ClusterMapParts {
  readonly snapshots: readonly Qcow2Snapshot[];
}

export class Qcow2Layer implements Layer {
  readonly format = 'qcow2';
  readonly file: BlockDevice;
  readonly virtualSize: number;
  readonly readOnly = true;
  readonly unit: number;
  readonly identity = undefined;
  readonly snapshotName = undefined;
  readonly backing: BackingReference | undefined;
  readonly writer = undefined;
  readonly #header: Qcow2Header;
  readonly #map: ClusterMap;
  readonly #snapshots: readonly Qcow2Snapshot[];
  readonly #dataFile: BlockDevice | undefined;
  #closed: Promise<void> | undefined = undefined;

  constructor(parts: Qcow2LayerParts) {
    const { file, header } = parts;
    this.file = file;
    this.virtualSize = parts.virtualSize;
    this.unit = header.clusterSize;
    this.backing = header.backing && { ...header.backing, byIdentity: false };
    this.#header = header;
    this.#map = new ClusterMap(parts);
    this.#snapshots = parts.snapshots;
    this.#dataFile = parts.dataFile;
  }

  locate(offset: number, length: number, into: Location): MaybePromise<void> {
    return this.#map.locate(offset, length, into);
  }

  async decompress(location: Location): Promise<Uint8Array> {
    invariant(location.kind === COMPRESSED, 'only a compressed location can be decompressed');
    const { deviceOffset, unitOffset, unitLength } = location;
    const stored = new Uint8Array(location.storedLength);
    await this.file.pread(stored, deviceOffset);
    try {
      const unit = await decompressCluster(this.#header.compressionType, stored, this.unit);
      return unit.length === unitLength ? unit : unit.subarray(0, unitLength);
    } catch (error) {
      if (!(error instanceof VimgError)) throw error;
      const where = `guest offset ${unitOffset}: ${error.message}`;
      throw new VimgError(error.code, where, {
        op: 'decompress',
        path: this.file.name,
        offset: deviceOffset,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
        cause: error.cause,
      });
    }
  }

  async info(): Promise<LayerInfo> {
    const header = this.#header;
    const bitmaps = await readBitmapDirectory(this.file, header);
    const specific: Record<string, unknown> = {
      compat: header.version === 2 ? '0.10' : '1.1',
      'compression-type': header.compressionType,
      ...(header.version === 2 ? {} : { 'lazy-refcounts': header.lazyRefcounts }),
      ...(bitmaps === undefined ? {} : { bitmaps: describeBitmaps(bitmaps) }),
      'refcount-bits': header.refcountBits,
      ...(header.encryption === undefined ? {} : { encrypt: { format: header.encryption } }),
      ...(header.dataFile?.name === undefined ? {} : { 'data-file': header.dataFile.name }),
      ...(header.dataFile === undefined ? {} : { 'data-file-raw': header.dataFile.raw }),
      ...(header.version === 2 ? {} : { corrupt: header.corrupt, 'extended-l2': header.extendedL2 }),
    };
    return {
      clusterSize: header.clusterSize,
      dirty: header.dirty,
      ...(header.encryption === undefined ? {} : { encrypted: true }),
      ...(this.#snapshots.length === 0 ? {} : { snapshots: this.#snapshots.map(snapshotInfo) }),
      specific,
      ...(header.dataFile?.name === undefined ? {} : { dataFile: header.dataFile.name }),
      ...(header.corrupt
        ? {
            warnings: [
              'the image is marked corrupt: it can be read, not trusted; `vimg check` says what is damaged',
            ],
          }
        : {}),
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    try {
      await this.#dataFile?.close();
    } finally {
      await this.file.close();
    }
  }
}
