/**
 * Merging two neighbouring layers, so that one of them can go.
 *
 * Down: what the lower layer shows through the upper one is copied into the upper, then the upper stands on the
 * lower one's parent: one header write. Up: what the upper layer holds is written over the lower, then the lower
 * takes the disk's name: one rename; settled by snapshot-settle.ts when a crash comes right then. Until that moment
 * everything reads as before, whatever was copied already; so a merge that was interrupted is simply done again. merge-open.ts and merge-behind.ts go down in disks that are in use.
 */
import { setImmediate } from 'node:timers/promises';
import { VimgError } from '../../src/base/errors.ts';
import { newUuid } from '../../src/binary/uuid.ts';
import { nameOf } from '../../src/device/file-path.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { folderGate } from '../../src/image/gate-policies.ts';
import { BEHIND, type Layer, Location, ZERO } from '../../src/image/layer.ts';
import type { LifecycleContext, LongOperation } from '../../src/image/lifecycle.ts';
import { openBehind } from '../../src/image/open-chain.ts';
import { stageAttributes } from './attributes.ts';
import type { OpenVvdFile } from './disk-file.ts';
import { isSealed, setHeaderText, writeHeader } from './header.ts';
import { type Header, INTENT_DELETE, INTENT_MERGE, INTENT_NONE, PAGE } from './layout.ts';

const CHUNK = 1024 * 1024;
/** Ranges looked up between two turns of the event loop. */
const STEPS = 64;

/** Guest bytes that a layer itself holds. All of its map is looked at. */
export async function storedBytes(layer: Layer, signal?: AbortSignal): Promise<number> {
  let bytes = 0;
  const count = (range: Range): Promise<void> => {
    if (range.kind !== BEHIND && range.kind !== ZERO) bytes += range.length;
    return Promise.resolve();
  };
  await eachRange(layer, 0, layer.virtualSize, count, signal);
  return bytes;
}

/** A guest range that a layer holds in one way: a kind of location. */
export interface Range {
  readonly offset: number;
  readonly length: number;
  readonly kind: number;
}

async function eachRange(
  layer: Layer,
  from: number,
  to: number,
  visit: (range: Range) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const location = new Location();
  let steps = 0;
  for (let at = from; at < to; ) {
    throwCancelled(signal);
    await layer.locate(at, to - at, location);
    const { kind, length } = location;
    await visit({ offset: at, length, kind });
    at += length;
    if (++steps % STEPS === 0) await setImmediate();
  }
}

/** @throws VimgError `CANCELLED` once the merge is to end */
export function throwCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new VimgError('CANCELLED', 'Cancelled', { hint: 'doing it again goes on' });
}

/** Copies what `lower` shows through `upper` into `upper`, and makes that stand on the parent of `lower`. */
export async function mergeDown(
  lower: OpenVvdFile,
  upper: OpenVvdFile,
  context: LifecycleContext & LongOperation,
): Promise<void> {
  // with larger sub-blocks above, the rest of one that is copied into comes from further behind
  const isFiner = lower.layer.header.blockShift < upper.layer.header.blockShift;
  const behind = isFiner ? await layersBehind(lower, context) : [];
  try {
    const target = new DiskImage(upper.path, [upper.layer, lower.layer, ...behind]);
    const source = new DiskImage(lower.path, [lower.layer]);
    await beginMerge(upper);
    await copyDown(
      lower.layer,
      upper.layer,
      (range) => copyRange(source, target, range, context.signal),
      context,
    );
    await target.flush();
  } finally {
    for (const layer of behind) await layer.close();
  }
  await upper.layer.vvdWriter?.close();
  standOnParentOf(lower.layer.header, upper.layer.header);
  await writeHeader(upper.file, upper.layer.header);
}

/** What a layer's header says once that which it stood on is merged into it. */
export function standOnParentOf(below: Header, header: Header): void {
  header.parentUuid = below.parentUuid;
  header.parentContentId = below.parentContentId;
  header.parentFormat = below.parentFormat;
  header.parentPath = below.parentPath.slice();
  header.parentPathLength = below.parentPathLength;
  header.intent = INTENT_NONE;
}

/**
 * Has `copy` bring everything into `upper` that it shows of `lower`, in ascending order.
 *
 * @param copy gives the upper layer a range that it does not hold; of kind ZERO: makes it zero there
 */
export async function copyDown(
  lower: Layer,
  upper: Layer,
  copy: (range: Range) => Promise<void>,
  operation: LongOperation,
): Promise<void> {
  const { signal, onProgress } = operation;
  const total = await storedBytes(lower);
  const end = Math.min(lower.virtualSize, upper.virtualSize);
  let done = 0;
  const copyShown = (range: Range): Promise<void> =>
    range.kind === BEHIND
      ? Promise.resolve()
      : eachRange(upper, range.offset, range.offset + range.length, async (shown) => {
          if (shown.kind !== BEHIND) return;
          await copy({ ...shown, kind: range.kind });
          done += range.kind === ZERO ? 0 : shown.length;
          onProgress?.(Math.min(done, total), total);
        });
  await eachRange(lower, 0, end, copyShown, signal);
  // past the end of `lower` the upper layer read zeroes; the next parent may hold something there
  if (lower.virtualSize >= upper.virtualSize || !lower.backing) return;
  const hide = async (range: Range): Promise<void> => {
    if (range.kind === BEHIND) await copy({ ...range, kind: ZERO });
  };
  await eachRange(upper, lower.virtualSize, upper.virtualSize, hide, signal);
}

/** Marks a sealed layer as taking part in a merge: it stays refused for writing by others. */
export async function beginMerge(disk: OpenVvdFile): Promise<void> {
  const { header } = disk.layer;
  if (!isSealed(header)) return;
  header.intent = INTENT_MERGE;
  await writeWithoutChecksums(disk);
}

async function copyRange(
  source: DiskImage,
  target: DiskImage,
  range: Range,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (range.kind === ZERO) {
    await target.writeZeroes(range.offset, range.length);
    return;
  }
  const buffer = new Uint8Array(Math.min(CHUNK, range.length));
  for (let at = 0; at < range.length; at += CHUNK) {
    throwCancelled(signal);
    const part = buffer.subarray(0, Math.min(CHUNK, range.length - at));
    await source.pread(part, range.offset + at);
    await target.pwrite(part, range.offset + at);
  }
}

/** Writes what `upper` holds over `lower`, which then is the disk: unsealed, with its size and attributes. */
export async function mergeUp(
  upper: OpenVvdFile,
  lower: OpenVvdFile,
  context: LifecycleContext & LongOperation,
): Promise<void> {
  const behind = await layersBehind(lower, context);
  try {
    const source = new DiskImage(upper.path, [upper.layer]);
    const target = new DiskImage(lower.path, [lower.layer, ...behind]);
    await beginDelete(lower, upper);
    const total = await storedBytes(upper.layer);
    let done = 0;
    if (upper.layer.virtualSize !== lower.layer.virtualSize) await target.resize(upper.layer.virtualSize);
    const copy = async (range: Range): Promise<void> => {
      if (range.kind === BEHIND) return;
      await copyRange(source, target, range, context.signal);
      done += range.kind === ZERO ? 0 : range.length;
      context.onProgress?.(done, total);
    };
    await eachRange(upper.layer, 0, upper.layer.virtualSize, copy, context.signal);
    await target.flush();
    await lower.layer.vvdWriter?.close();
  } finally {
    for (const layer of behind) await layer.close();
  }
  await stageAttributes(lower.file, lower.layer.header, upper.layer.attributes);
  await writeHeader(lower.file, lower.layer.header);
}

/** All layers behind one, opened to read. */
async function layersBehind(disk: OpenVvdFile, context: LifecycleContext): Promise<Layer[]> {
  const layers: Layer[] = [disk.layer];
  const { allow = [], allowAny: any = false } = context;
  try {
    await openBehind(layers, context.formats, context.gate ?? folderGate({ allow, any, lock: 'read' }));
    return layers.slice(1);
  } catch (error) {
    for (const layer of layers.slice(1)) await layer.close();
    throw error;
  }
}

/** Before the first change: from now on the layer keeps no past state, and only this disk may stand on it. */
async function beginDelete(lower: OpenVvdFile, upper: OpenVvdFile): Promise<void> {
  const { header } = lower.layer;
  if (header.intent === INTENT_DELETE) return; // an earlier attempt got this far
  const former = `${upper.layer.header.diskUuid} ${header.contentId}`;
  header.groupPathLength = setHeaderText(header.groupPath, former, 'The former identity');
  header.intentNameLength = setHeaderText(header.intentName, nameOf(upper.path), 'The name of the disk');
  header.contentId = newUuid();
  header.intent = INTENT_DELETE;
  await writeWithoutChecksums(lower);
}

/** Writes the header of a layer whose data is going to change: it names no checksums, and their space is free. */
async function writeWithoutChecksums(disk: OpenVvdFile): Promise<void> {
  const { header, vvdWriter } = disk.layer;
  const { checksumOffset, checksumPages } = header;
  header.checksumState = 0;
  header.checksumOffset = 0;
  header.checksumPages = 0;
  await writeHeader(disk.file, header);
  if (checksumOffset !== 0) vvdWriter?.freeRegion(checksumOffset, checksumPages * PAGE);
}
