/**
 * Deleting a snapshot on which another one stands, of a disk that is in use: what that one shows of it is copied into
 * it, with the intent and the header write of a merge that goes down (merge.ts), while the guest goes on.
 *
 * The layer that takes the data over is open here, to read. It is opened a second time, to write, and takes part in the
 * disk by that: so there is one set of its pages in memory. The guest waits for the exchange of layers, before and after.
 *
 * Invariants:
 * - Nobody writes that layer but the merge, so nothing has to stand still while a piece is copied.
 * - What the guest reads of it is durable (merging-layer.ts): whatever fails, the guest notices nothing.
 * - Both layers are locked as a writer would, from before the first change: nobody else reads them, or makes a clone.
 */
import { setImmediate } from 'node:timers/promises';
import { isVimgError, VimgError } from '../../src/base/errors.ts';
import { roundDown, roundUp } from '../../src/base/size.ts';
import { nameOf } from '../../src/device/file-path.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { openImpatientFile } from '../../src/device/files.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { type Layer, ZERO } from '../../src/image/layer.ts';
import type { LongOperation } from '../../src/image/lifecycle.ts';
import { isSealed } from './header.ts';
import type { VvdLayer } from './layer.ts';
import { beginMerge, copyDown, type Range, standOnParentOf, storedBytes, throwCancelled } from './merge.ts';
import { MergingLayer, UnflushedCopies } from './merging-layer.ts';
import { openVvd } from './open.ts';
import { settleSnapshot } from './snapshot-settle.ts';

/** Bytes copied between two turns of the event loop: less than a millisecond. */
const PIECE = 256 * 1024;
/** Bytes made zero at once: a piece of the map only. */
const ZERO_PIECE = 256 * 1024 * 1024;
/** Bytes copied, and ranges, between two flushes. */
const FLUSH_BYTES = 64 * 1024 * 1024;
const FLUSH_RANGES = 1024;

/**
 * Merges a layer behind the top into the one above it. Afterwards the disk does not have it any more, and it is the
 * caller's to remove and to close.
 *
 * @param depth of the layer that takes the data over: at least 1
 * @throws VimgError `LOCKED` when others use one of the two, `NO_SPACE`, `CORRUPT`, `CANCELLED`: doing it again goes on
 */
export async function mergeBehind(disk: DiskImage, depth: number, operation: LongOperation): Promise<void> {
  const upper = disk.layers[depth] as VvdLayer;
  const lower = disk.layers[depth + 1] as VvdLayer;
  const files = [lower.file as DiskFile, upper.file as DiskFile];
  await lockAll(files);
  let merge: LayerMerge;
  try {
    merge = await LayerMerge.begin(disk, depth, operation.signal);
  } catch (error) {
    await unlockAll(files);
    throw error;
  }
  try {
    await merge.run(operation);
  } finally {
    await unlockAll(disk.layers.includes(lower) ? files : files.slice(1));
    await merge.file.changeLock('read');
    await upper.close();
  }
}

/** @throws VimgError `LOCKED`; then nothing is locked in another way than before */
async function lockAll(files: readonly DiskFile[]): Promise<void> {
  const locked: DiskFile[] = [];
  try {
    for (const file of files) {
      await file.changeLock('write');
      locked.push(file);
    }
  } catch (error) {
    await unlockAll(locked);
    throw isVimgError(error, 'LOCKED') ? inOtherHands(error) : error;
  }
}

async function unlockAll(files: readonly DiskFile[]): Promise<void> {
  for (const file of files) await file.changeLock('read');
}

function inOtherHands(error: VimgError): VimgError {
  const name = nameOf(error.path ?? '');
  return new VimgError(
    'LOCKED',
    `Could not delete the snapshot: '${name}' is read by others: ${error.message}`,
    {
      hint: 'end what reads it (a clone that is in use, a copy, an export of a past state), then delete the snapshot',
      cause: error,
    },
  );
}

class LayerMerge {
  /** By which the layer is written, and read from here on. */
  readonly file: DiskFile;
  readonly #disk: DiskImage;
  readonly #depth: number;
  readonly #upper: VvdLayer;
  readonly #lower: VvdLayer;
  readonly #copies = new UnflushedCopies();
  readonly #target: DiskImage;
  readonly #source: DiskImage;
  #unflushed = 0;

  private constructor(disk: DiskImage, depth: number, file: DiskFile, upper: VvdLayer) {
    this.file = file;
    this.#disk = disk;
    this.#depth = depth;
    this.#upper = upper;
    this.#lower = disk.layers[depth + 1] as VvdLayer;
    this.#target = new DiskImage(file.name, [upper, ...disk.layers.slice(depth + 1)]);
    this.#source = new DiskImage(this.#lower.file.name, [this.#lower]);
  }

  /** Opens the layer that takes the data over, verifies all of its map, and has the disk read by that. */
  static async begin(disk: DiskImage, depth: number, signal: AbortSignal | undefined): Promise<LayerMerge> {
    const former = disk.layers[depth] as VvdLayer;
    const { blocking } = disk;
    const file = await openImpatientFile(former.file.name, { readOnly: false, blocking });
    try {
      await settleSnapshot(file, file.name);
      const options = { readOnly: false, gate: closedGate, allowSealed: true, keepContentId: true };
      const upper = await openVvd(file, options);
      const { diskUuid, contentId } = former.header;
      if (
        upper.header.diskUuid !== diskUuid ||
        upper.header.contentId !== contentId ||
        !isSealed(upper.header)
      )
        throw new VimgError('STALE_PARENT', 'Another file has the name of this layer', { path: file.name });
      await storedBytes(upper, signal);
      const merge = new LayerMerge(disk, depth, file, upper);
      await merge.#exchange(new MergingLayer(upper, merge.#copies), 1);
      return merge;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The disk has `layer` in the place of as many, from the one on that takes the data over. */
  #exchange(layer: Layer, count: number): Promise<void> {
    const { layers } = this.#disk;
    const depth = this.#depth;
    return this.#disk.exclusively(() => {
      this.#disk.setLayers([...layers.slice(0, depth), layer, ...layers.slice(depth + count)]);
      return Promise.resolve();
    });
  }

  async run(operation: LongOperation): Promise<void> {
    const { file } = this;
    const upper = this.#upper;
    try {
      await beginMerge({ path: file.name, file, layer: upper });
      await copyDown(this.#lower, upper, (range) => this.#copy(range, operation.signal), operation);
      await this.#flush();
      await upper.vvdWriter?.close();
    } catch (error) {
      await this.#leave();
      throw error;
    }
    try {
      await upper.vvdWriter?.rest((header) => standOnParentOf(this.#lower.header, header)); // the moment
    } catch (error) {
      throw upper.metadata.fail(error); // on what it stands on disk is not known: the disk keeps both
    }
    await this.#exchange(upper.sealedView(), 2);
  }

  async #copy({ offset, length, kind }: Range, signal: AbortSignal | undefined): Promise<void> {
    const most = kind === ZERO ? ZERO_PIECE : PIECE;
    const unit = this.#upper.vvdWriter?.zeroUnit ?? 1;
    for (let at = offset; at < offset + length; at += most) {
      throwCancelled(signal);
      const piece = Math.min(most, offset + length - at);
      this.#copies.add(roundDown(at, unit), roundUp(at + piece, unit));
      if (kind === ZERO) await this.#target.writeZeroes(at, piece);
      else {
        const data = new Uint8Array(piece);
        await this.#source.pread(data, at);
        await this.#target.pwrite(data, at);
        this.#unflushed += piece;
      }
      if (this.#unflushed >= FLUSH_BYTES || this.#copies.count >= FLUSH_RANGES) await this.#flush();
      await setImmediate(); // the guest's turn
    }
  }

  async #flush(): Promise<void> {
    await this.#upper.vvdWriter?.flush();
    this.#copies.clear();
    this.#unflushed = 0;
  }

  /** After a failure. What was copied so far stays where that can be made durable; else it is never looked at here. */
  async #leave(): Promise<void> {
    try {
      await this.#flush();
      await this.#upper.vvdWriter?.rest();
    } catch (error) {
      this.#upper.metadata.fail(error);
      return;
    }
    await this.#exchange(this.#upper.sealedView(), 1);
  }
}
