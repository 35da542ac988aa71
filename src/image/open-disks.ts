/**
 * Snapshots and attributes of disks that are open and being used, by a running machine for example.
 *
 * A disk stands still for the moment at which it happens, and no longer: what is slow (making the new layer, flushing
 * what was written) is done before, what is left over afterwards.
 */
import { VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import type { DiskImage } from './disk-image.ts';
import type {
  AttributeChange,
  DeletePlan,
  LongOperation,
  OpenDiskOperations,
  OpenSnapshot,
  TakenSnapshot,
} from './lifecycle.ts';
import type { FormatRegistry } from './registry.ts';

/** Writes that came during a flush of this length are flushed in about as long. */
const SHORT_FLUSH_MS = 25;
/** Who writes more than the storage takes is not waited for. */
const FLUSHES_MAX = 8;

/**
 * Seals the present content of each disk as a snapshot; all of them or none, at one instant. Requests that are under
 * way are in it; those that come meanwhile wait, and go to the new layers. Every disk stays locked throughout. What was
 * acknowledged before is in the snapshot, and durable.
 *
 * @param disks open for writing, each once
 * @param closed paths of disks that nobody has open, which take part
 * @returns milliseconds for which the disks stood still
 * @throws VimgError `EXISTS`, `LOCKED`, `UNSUPPORTED` for a format without it, `READ_ONLY`, `NO_SPACE`, `LIMIT`
 */
export async function snapshotOpenDisks(
  disks: readonly DiskImage[],
  closed: readonly string[],
  name: string,
  formats: FormatRegistry,
): Promise<number> {
  const [first] = disks;
  if (!first) return 0;
  for (const disk of disks) refuseUnfit(disk);
  const operations = openOperationsOf(first, formats);
  for (const disk of disks) openOperationsOf(disk, formats);
  const tops = disks.map((disk) => ({ path: disk.path, layer: disk.top, blocking: disk.blocking }));
  const staged = await operations.stageSnapshot(tops, closed, name);
  let stillMs = 0;
  try {
    await flushUntilLittleIsLeft(disks);
  } catch (error) {
    await staged.discard();
    throw error;
  }
  const start = performance.now();
  await together(disks, async () => {
    await takeAll(disks, staged);
    stillMs = performance.now() - start;
  });
  await staged.finish();
  return stillMs;
}

/**
 * Flushes while writes go on. What is written during one flush is what the next has to bring to disk; so after a short
 * one there is little, and the flush for which the disks stand still is short as well.
 */
async function flushUntilLittleIsLeft(disks: readonly DiskImage[]): Promise<void> {
  for (let round = 1; ; round++) {
    const start = performance.now();
    for (const disk of disks) await disk.flush();
    if (performance.now() - start <= SHORT_FLUSH_MS || round === FLUSHES_MAX) return;
  }
}

/** A failed attempt leaves the layers as they are, but closed for the moment: what writes to them begins anew. */
async function takeAll(disks: readonly DiskImage[], staged: OpenSnapshot): Promise<void> {
  let taken: readonly TakenSnapshot[];
  try {
    taken = await staged.take();
  } catch (error) {
    for (const disk of disks) disk.setLayers(disk.layers);
    throw error;
  }
  for (const [index, disk] of disks.entries()) {
    const { top, sealed } = taken[index] as TakenSnapshot;
    disk.setLayers([top, sealed, ...disk.layers.slice(1)]);
  }
}

/** Does `work` while nothing is under way in any of the disks. */
function together(disks: readonly DiskImage[], work: () => Promise<void>): Promise<void> {
  const [first, ...rest] = disks;
  return first === undefined ? work() : first.exclusively(() => together(rest, work));
}

function refuseReadOnly({ readOnly, path }: DiskImage, op: string): void {
  if (readOnly) throw new VimgError('READ_ONLY', 'The disk is open read-only', { op, path });
}

function refuseUnfit(disk: DiskImage): void {
  refuseReadOnly(disk, 'snapshot');
  if (disk.layers.length < LIMITS.chainDepth) return;
  throw new VimgError('LIMIT', `The chain has ${disk.layers.length} layers already`, {
    op: 'snapshot',
    path: disk.path,
    hint: 'delete a snapshot first',
  });
}

/**
 * Takes a snapshot for a clone to stand on, and has it know the clone, which is made afterwards.
 *
 * @param clone whole path of the file that will be the clone
 * @throws VimgError as {@link snapshotOpenDisks}
 */
export async function snapshotForClone(
  disk: DiskImage,
  name: string,
  clone: string,
  formats: FormatRegistry,
): Promise<void> {
  refuseUnfit(disk);
  const operations = openOperationsOf(disk, formats);
  await disk.flush();
  await disk.exclusively(() => operations.recordClone(disk.top, disk.path, clone));
  await snapshotOpenDisks([disk], [], name, formats);
}

/**
 * Deletes a snapshot that a disk that is open for writing stands on, or one that nothing stands on, while the disk goes on
 * being used. What it reads does not change. One change of the disk's layers at a time.
 *
 * @param operation with `planOnly` nothing is done, and only the plan is told
 * @throws VimgError `NOT_FOUND`, `READ_ONLY`, `LOCKED` while others read the snapshot or the layer above it, `NO_SPACE`,
 *   `UNSUPPORTED` for what has to wait until nobody uses the disk, `CANCELLED`: doing it again goes on
 */
export async function deleteOpenSnapshot(
  disk: DiskImage,
  name: string,
  formats: FormatRegistry,
  operation: LongOperation & { readonly planOnly?: boolean } = {},
): Promise<DeletePlan> {
  refuseReadOnly(disk, 'delete snapshot');
  return openOperationsOf(disk, formats).deleteSnapshot(disk, name, operation);
}

/** Sets attributes (a text) and removes them (undefined) of a disk that is open for writing; durable. */
export async function changeOpenAttributes(
  disk: DiskImage,
  change: AttributeChange,
  formats: FormatRegistry,
): Promise<void> {
  const operations = openOperationsOf(disk, formats);
  await disk.flush();
  await disk.exclusively(() => operations.changeAttributes(disk.top, change));
}

function openOperationsOf(disk: DiskImage, formats: FormatRegistry): OpenDiskOperations {
  const { lifecycle } = formats.get(disk.format);
  if (lifecycle) return lifecycle.open;
  throw new VimgError('UNSUPPORTED', `${disk.format} images do not support this operation in this release`, {
    path: disk.path,
    hint: `convert it first: vimg convert ${disk.path} new.vvd`,
  });
}
