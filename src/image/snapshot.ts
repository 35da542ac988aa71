/** Snapshots of disks whose format keeps them as layers. For qcow2's internal ones see `SnapshotInfo`. */
import { VimgError } from '../base/errors.ts';
import { openFile } from '../device/files.ts';
import type { FormatDriver } from './format-driver.ts';
import type { DeletePlan, LayerSnapshot, Lifecycle, LifecycleContext, LongOperation } from './lifecycle.ts';
import { probeFormat } from './probe.ts';
import type { FormatRegistry } from './registry.ts';

/** The driver of a file, by `format` or by its content. */
export async function driverOf(
  path: string,
  formats: FormatRegistry,
  format?: string,
): Promise<FormatDriver> {
  if (format !== undefined) return formats.get(format);
  const file = await openFile(path, { readOnly: true });
  try {
    return (await probeFormat(file, formats)).driver;
  } finally {
    await file.close();
  }
}

/**
 * The whole-file operations of a disk's format.
 *
 * @throws VimgError `UNSUPPORTED` for a format without them
 */
export async function lifecycleOf(path: string, formats: FormatRegistry, op: string): Promise<Lifecycle> {
  const driver = await driverOf(path, formats);
  if (driver.lifecycle) return driver.lifecycle;
  throw new VimgError('UNSUPPORTED', `${driver.name} images do not support this operation in this release`, {
    op,
    path,
    hint: `convert it first: vimg convert ${path} new.vvd`,
  });
}

/**
 * Seals the present content of each disk as a snapshot, in constant time; all of the disks or none.
 *
 * @throws VimgError `EXISTS`, `LOCKED`, `UNSUPPORTED`, `NO_SPACE`
 */
export async function createSnapshot(
  paths: readonly string[],
  name: string,
  context: LifecycleContext,
): Promise<void> {
  let lifecycle: Lifecycle | undefined;
  for (const path of paths) lifecycle = await lifecycleOf(path, context.formats, 'snapshot');
  await lifecycle?.createSnapshot(paths, name);
}

/** The snapshots of a disk, oldest first. */
export async function listSnapshots(path: string, context: LifecycleContext): Promise<LayerSnapshot[]> {
  return (await lifecycleOf(path, context.formats, 'list snapshots')).listSnapshots(path);
}

/** The disk reads as at the snapshot again; what was written since is given up. */
export async function revertSnapshot(path: string, name: string, context: LifecycleContext): Promise<void> {
  await (await lifecycleOf(path, context.formats, 'revert')).revertSnapshot(path, name);
}

/** What {@link deleteSnapshot} would do. */
export async function planDeleteSnapshot(
  path: string,
  name: string,
  context: LifecycleContext,
): Promise<DeletePlan> {
  return (await lifecycleOf(path, context.formats, 'delete snapshot')).planDelete(path, name);
}

/**
 * Deletes a snapshot; what the disk and other snapshots read stays the same. Cancelled or killed, it is resumed by
 * calling it again.
 *
 * @throws VimgError `NOT_FOUND`, `LOCKED` when other disks stand on it, `CANCELLED`
 */
export async function deleteSnapshot(
  path: string,
  name: string,
  context: LifecycleContext & LongOperation,
): Promise<DeletePlan> {
  return (await lifecycleOf(path, context.formats, 'delete snapshot')).deleteSnapshot(path, name, context);
}
