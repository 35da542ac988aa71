/** Linked clones: a new empty layer on a base that is never written again. */
import { VimgError } from '../base/errors.ts';
import { resolvePath } from '../device/file-path.ts';
import { fileExists, openFile, realPath } from '../device/files.ts';
import { isFlatPath } from '../device/mounts.ts';
import { createImage, storedReference } from './create-image.ts';
import type { OptionValues } from './format-driver.ts';
import type { LifecycleContext } from './lifecycle.ts';
import { driverOf } from './snapshot.ts';

export interface CloneOptions extends LifecycleContext {
  readonly snapshot?: string | undefined;
  readonly format?: string | undefined;
  /** Options of the new layer. */
  readonly options?: OptionValues;
  /** Refuse when the target exists. */
  readonly exclusive?: boolean;
}

export interface CloneResult {
  /** The file that the clone stands on. */
  readonly base: string;
  /** False when the base could not be told of the clone: it will not name it when it is asked to go. */
  readonly recorded: boolean;
}

/**
 * Makes `target` a linked clone of `source`, in constant time. A disk that is still written takes a snapshot first:
 * it stays writable, and both stand on that. A base of another format is used as it is; it must not change.
 *
 * @throws VimgError `NOT_FOUND`, `EXISTS`, `LOCKED`, `STALE_PARENT`
 */
export async function linkedClone(
  source: string,
  target: string,
  options: CloneOptions,
): Promise<CloneResult> {
  // a server that takes one client is connected to once: it stays open between one look at it and the next
  const exported = isFlatPath(source) ? await openFile(source, { readOnly: true }) : undefined;
  try {
    return await makeClone(source, target, options);
  } finally {
    await exported?.close();
  }
}

async function makeClone(source: string, target: string, options: CloneOptions): Promise<CloneResult> {
  if ((options.exclusive ?? true) && (await fileExists(target))) {
    // before the source gets a snapshot for nothing
    throw new VimgError('EXISTS', 'The file exists already', { op: 'clone', path: target });
  }
  const driver = await driverOf(source, options.formats, options.format);
  const base = driver.lifecycle
    ? await driver.lifecycle.baseForClone(source, options.snapshot)
    : await realPath(source);
  const placed = resolvePath('.', target);
  const stored = storedReference(base, placed);
  await createImage(target, {
    formats: options.formats,
    format: 'vvd',
    options: options.options ?? {},
    backing: { path: stored, format: driver.name },
    exclusive: options.exclusive ?? true,
    open: { ...openOptions(options) },
  });
  const recorded = driver.lifecycle ? await driver.lifecycle.recordClone(base, placed) : true;
  return { base, recorded };
}

/** The name of the snapshot that a clone of a disk in use stands on. */
export function cloneSnapshotName(now: Date): string {
  return `clone-${now.toISOString().replace(/[-:]/g, '').replace('T', '-').replace('Z', '')}`;
}

function openOptions(context: LifecycleContext): Omit<LifecycleContext, 'formats'> {
  const { formats: _formats, ...rest } = context;
  return rest;
}
