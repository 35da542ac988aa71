/**
 * Deleting snapshots of a disk that is in use.
 *
 * The newest one: what the disk reads from it is copied into the disk, piece by piece, while the guest goes on; then the
 * disk stands on the parent of the snapshot: one header write, as when nobody uses it (merge.ts). One on which another
 * snapshot stands is merged into that: merge-behind.ts.
 *
 * Invariants of the former:
 * - A piece is looked up and copied while the disk stands still, so no write of the guest can come between the looking
 *   and the copying, and be lost by it. Between two pieces the guest goes on.
 * - What the disk holds itself is never copied over, and stays held: a piece is copied once.
 * - Until the header write everything reads as before, whatever was copied; cancelled or killed, it can be done again.
 * - The snapshot is locked as a writer would, from before the first piece: nobody reads it, or makes a clone of it.
 */
import { setImmediate } from 'node:timers/promises';
import { invariant, VimgError } from '../../src/base/errors.ts';
import { folderOf } from '../../src/device/file-path.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { isSameFile, removeFile, syncFolder } from '../../src/device/files.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { BEHIND, type Layer, Location, ZERO } from '../../src/image/layer.ts';
import type { DeletePlan, LayerSnapshot, LongOperation } from '../../src/image/lifecycle.ts';
import { listAttributes } from './attribute-change.ts';
import { openForChange, realDisk } from './disk-file.ts';
import {
  allocatedTo,
  CLONES_ATTRIBUTE,
  childrenOf,
  findSnapshot,
  isLayerOf,
  refuseWithChildren,
} from './family.ts';
import { type FolderEntry, peekHeader } from './header-peek.ts';
import { VvdLayer } from './layer.ts';
import { standOnParentOf, storedBytes, throwCancelled } from './merge.ts';
import { mergeBehind } from './merge-behind.ts';
import { MergingLayer } from './merging-layer.ts';

/** Bytes copied while the guest waits: some milliseconds. */
const PIECE = 256 * 1024;
/** Bytes made zero at once: a piece of the map only. */
const ZERO_PIECE = 256 * 1024 * 1024;
/** Places looked at between two turns of the event loop. */
const STEPS = 64;

/**
 * Deletes a snapshot that a disk in use stands on, or that nothing stands on.
 *
 * @param disk open for writing, with a top layer of this format
 * @throws VimgError `NOT_FOUND`, `LOCKED` when others use the snapshot, or the layer above it, or stand on it, `UNSUPPORTED`
 *   when that has to wait until nobody uses the disk, `NO_SPACE`, `CANCELLED`: doing it again goes on
 */
export async function deleteOpenSnapshot(
  disk: DiskImage,
  name: string,
  operation: LongOperation & { readonly planOnly?: boolean },
): Promise<DeletePlan> {
  const path = await realDisk(disk.path);
  const snapshot = await findSnapshot(path, name);
  const depth = await depthOf(snapshot.path, disk.layers);
  const child = await onlyChild(path, snapshot);
  if (!child) {
    if (depth !== undefined) throw refused(name, ...UNFINISHED);
    const freed = await allocatedTo(snapshot.path);
    if (!operation.planOnly) await removeUnused(snapshot.path);
    return { snapshot: name, way: 'unlink', bytes: 0, freed };
  }
  if (depth === undefined) {
    throw refused(
      name,
      'another snapshot stands on it, and the disk does not',
      `delete that first, or ${END_USE}`,
    );
  }
  const upper = disk.layers[depth - 1];
  const lower = disk.layers[depth];
  invariant(
    upper instanceof VvdLayer && lower instanceof VvdLayer && (await isSameFile(upper.file.name, child.path)),
    'what stands on the snapshot is the layer above it',
  );
  if (upper instanceof MergingLayer || lower instanceof MergingLayer) throw refused(name, ...UNFINISHED);
  const [bytes, freed] = [await storedBytes(lower), await allocatedTo(snapshot.path)];
  const plan: DeletePlan = { snapshot: name, way: 'down', bytes, freed };
  if (operation.planOnly) return plan;
  if (depth === 1) await mergeIntoOpen(disk, upper, lower, plan.bytes, operation);
  else await mergeBehind(disk, depth - 1, operation);
  try {
    await removeDurably(lower.file.name);
  } finally {
    await lower.close();
  }
  return plan;
}

const END_USE = 'end what uses the disk, and delete it then';
const UNFINISHED = ['an earlier attempt has to be finished first', END_USE] as const;

function refused(name: string, why: string, hint: string): VimgError {
  return new VimgError('UNSUPPORTED', `Could not delete snapshot '${name}' of a disk in use: ${why}`, {
    hint,
  });
}

async function depthOf(path: string, layers: readonly Layer[]): Promise<number | undefined> {
  for (const [depth, layer] of layers.entries()) if (await isSameFile(layer.file.name, path)) return depth;
  return undefined;
}

/** The disk itself or another snapshot of it; or nothing. */
async function onlyChild(disk: string, snapshot: LayerSnapshot): Promise<FolderEntry | undefined> {
  const { path, name } = snapshot;
  const header = await peekHeader(path);
  if (snapshot.deleting || !header) throw refused(name, ...UNFINISHED);
  const clones = String((await listAttributes(path)).get(CLONES_ATTRIBUTE) ?? '');
  const children = await childrenOf(path, header, clones);
  const [child] = children;
  if (!child) return undefined;
  if (children.length > 1 || !isLayerOf(disk, child.path))
    refuseWithChildren(path, children, 'delete snapshot');
  return child;
}

/** The lock shows whether someone reads it. */
async function removeUnused(path: string): Promise<void> {
  const { file } = await openForChange(path, { allowSealed: true, keepContentId: true });
  try {
    await removeDurably(path);
  } finally {
    await file.close();
  }
}

async function removeDurably(path: string): Promise<void> {
  await removeFile(path);
  await syncFolder(folderOf(path));
}

async function mergeIntoOpen(
  disk: DiskImage,
  top: VvdLayer,
  lower: VvdLayer,
  total: number,
  operation: LongOperation,
): Promise<void> {
  const file = lower.file as DiskFile;
  await file.changeLock('write');
  try {
    await new LiveCopy(disk, lower, total, operation).run();
    await disk.flush();
    await disk.exclusively(() => leaveOut(disk, top, lower));
  } catch (error) {
    if (disk.layers.includes(lower)) await file.changeLock('read');
    throw error;
  }
}

/** The moment at which the snapshot is gone. When it fails, nobody knows on what the disk stands on disk. */
async function leaveOut(disk: DiskImage, top: VvdLayer, lower: VvdLayer): Promise<void> {
  try {
    await top.vvdWriter?.rest((header) => standOnParentOf(lower.header, header));
  } catch (error) {
    throw top.metadata.fail(error);
  }
  disk.setLayers([top.renewed(), ...disk.layers.slice(2)]);
}

/** Copies into the top of a disk in use what it shows of the layer behind. */
class LiveCopy {
  readonly #disk: DiskImage;
  readonly #top: Layer;
  readonly #lower: Layer;
  /** The disk's layers for this alone: the disk itself stands still while it is used. */
  readonly #target: DiskImage;
  readonly #source: DiskImage;
  readonly #total: number;
  readonly #operation: LongOperation;
  readonly #location = new Location();
  #done = 0;
  #steps = 0;

  constructor(disk: DiskImage, lower: Layer, total: number, operation: LongOperation) {
    this.#disk = disk;
    this.#top = disk.top;
    this.#lower = lower;
    this.#target = new DiskImage(disk.path, disk.layers);
    this.#source = new DiskImage(lower.file.name, [lower]);
    this.#total = total;
    this.#operation = operation;
  }

  async run(): Promise<void> {
    const end = Math.min(this.#lower.virtualSize, this.#top.virtualSize);
    for (let at = 0; at < end; ) at = await this.#copyAt(at, end);
    await this.#hideBelow();
  }

  /** @returns the end of what was looked at, and copied where it had to be */
  async #copyAt(at: number, end: number): Promise<number> {
    await this.#breathe();
    await this.#lower.locate(at, end - at, this.#location);
    const { kind, length } = this.#location;
    if (kind === BEHIND) return at + length;
    await this.#top.locate(at, length, this.#location);
    if (this.#location.kind !== BEHIND) return at + this.#location.length;
    const until = at + Math.min(this.#location.length, kind === ZERO ? ZERO_PIECE : PIECE);
    await this.#disk.exclusively(() => this.#copyPiece(at, until));
    await setImmediate(); // the guest's turn
    if (kind !== ZERO) this.#done += until - at;
    this.#operation.onProgress?.(Math.min(this.#done, this.#total), this.#total);
    return until;
  }

  /** While the disk stands still: what it holds by now is left alone. */
  async #copyPiece(from: number, until: number): Promise<void> {
    const held = new Location();
    const behind = new Location();
    let length: number;
    for (let at = from; at < until; at += length) {
      await this.#top.locate(at, until - at, held);
      length = held.length;
      if (held.kind !== BEHIND) continue;
      await this.#lower.locate(at, length, behind);
      const { kind } = behind;
      length = behind.length;
      if (kind === ZERO) await this.#target.writeZeroes(at, length);
      if (kind === ZERO || kind === BEHIND) continue;
      const data = new Uint8Array(length);
      await this.#source.pread(data, at);
      await this.#target.pwrite(data, at);
    }
  }

  /** Past the end of the snapshot the disk read zeroes; the layer behind that may hold something there. */
  async #hideBelow(): Promise<void> {
    const end = Math.min(this.#top.virtualSize, this.#disk.layers[2]?.virtualSize ?? 0);
    for (let at = this.#lower.virtualSize; at < end; ) {
      await this.#breathe();
      const until = Math.min(end, at + ZERO_PIECE);
      await this.#disk.exclusively(() => this.#zeroPiece(at, until));
      at = until;
    }
  }

  async #zeroPiece(from: number, until: number): Promise<void> {
    const held = new Location();
    for (let at = from; at < until; at += held.length) {
      await this.#top.locate(at, until - at, held);
      if (held.kind === BEHIND) await this.#target.writeZeroes(at, held.length);
    }
  }

  async #breathe(): Promise<void> {
    throwCancelled(this.#operation.signal);
    if (++this.#steps % STEPS === 0) await setImmediate();
  }
}
