/**
 * Opening a disk: the file, its format, and the layers behind it.
 *
 * A layer behind is opened read-only, through the gate, and accepted only when it is the one that its child names
 * (identity, for formats that carry one). Loops and chains deeper than `LIMITS.chainDepth` are refused.
 */
import { isVimgError, VimgError } from '../base/errors.ts';
import { LIMITS } from '../base/limits.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { fileIdentity, openFile } from '../device/files.ts';
import type { FormatDriver } from './format-driver.ts';
import type { Gate } from './gate.ts';
import { folderGate, printable } from './gate-policies.ts';
import type { BackingReference, Layer } from './layer.ts';
import type { Lifecycle } from './lifecycle.ts';
import { findByIdentity } from './parent-search.ts';
import { probeFormat } from './probe.ts';
import type { FormatRegistry } from './registry.ts';

export interface OpenDiskOptions {
  readonly formats: FormatRegistry;
  /** Driver name; without it the content tells. */
  readonly format?: string | undefined;
  /** Default true. */
  readonly readOnly?: boolean;
  /** Opens what headers point to. Default: regular files in the image's folder and in `allow`. */
  readonly gate?: Gate;
  /** Folders in which referenced files may lie, and URIs of exports that may be referred to, for the default gate. */
  readonly allow?: readonly string[];
  /** The default gate opens any regular file: for callers that trust the image. */
  readonly allowAny?: boolean;
  /** Take QEMU's lock bytes on every file of the chain. Default true. */
  readonly lock?: boolean;
  /** Open the disk as it was at this snapshot, read-only. */
  readonly snapshot?: string | undefined;
  /** Open the layers behind. Default true; false: the top layer alone. */
  readonly backing?: boolean;
  /** Small transfers may block the thread. Default true; a server says false. */
  readonly blocking?: boolean;
  /** For `info`: layers open no data file; guest data cannot be read then. */
  readonly infoOnly?: boolean;
  /** The file was just created here and is thrown away on failure: its journal is not used. */
  readonly fresh?: boolean;
}

export interface OpenedLayers {
  /** Top first. */
  readonly layers: Layer[];
  readonly probed: boolean;
}

/** Opens the file and all layers behind it; on failure everything opened is closed again. */
export async function openLayers(path: string, options: OpenDiskOptions): Promise<OpenedLayers> {
  const gate = options.gate ?? defaultGate(options);
  const readOnly = (options.readOnly ?? true) || options.snapshot !== undefined;
  const layers: Layer[] = [];
  try {
    const { layer, probed } = await openTop(path, options, readOnly, gate);
    layers.push(layer);
    if (options.backing ?? true) await openBehind(layers, options.formats, gate);
    const { lifecycle } = options.formats.get(layer.format);
    if (options.snapshot === undefined || !lifecycle) return { layers, probed };
    const aside = await snapshotAside(layers, options.snapshot, lifecycle, path);
    if (aside === undefined) return { layers: await cutAtSnapshot(layers, options.snapshot, path), probed };
    await closeAll(layers.splice(0));
    return await openLayers(aside, { ...options, readOnly: true, snapshot: undefined });
  } catch (error) {
    await closeAll(layers);
    throw error;
  }
}

function defaultGate(options: OpenDiskOptions): Gate {
  return folderGate({
    allow: options.allow ?? [],
    any: options.allowAny ?? false,
    lock: (options.lock ?? true) ? 'read' : 'none',
    blocking: options.blocking ?? true,
  });
}

async function openTop(
  path: string,
  options: OpenDiskOptions,
  readOnly: boolean,
  gate: Gate,
): Promise<{ layer: Layer; probed: boolean }> {
  const wanted = (options.lock ?? true) ? (readOnly ? 'read' : 'write') : 'none';
  // A snapshot that is a layer is read beside whoever writes the disk: of the disk itself only its header counts.
  const lock = options.snapshot === undefined ? wanted : 'none';
  for (;;) {
    const file = await openFile(path, { readOnly, lock, blocking: options.blocking ?? true });
    try {
      const { driver, probed } = await chooseDriver(file, options);
      const passedOver = options.snapshot !== undefined && driver.lifecycle !== undefined;
      if (lock !== wanted && !passedOver) await file.changeLock(wanted);
      if (!readOnly) {
        refuseUnwritable(driver, path);
        if (await driver.lifecycle?.settle(file, path)) {
          await file.close();
          continue;
        }
      }
      if (options.snapshot !== undefined) refuseSnapshot(driver, path);
      const internal = options.snapshot !== undefined && driver.can.snapshot && !driver.lifecycle;
      const layer = await driver.open(file, {
        readOnly,
        gate,
        ...(internal ? { snapshot: options.snapshot as string } : {}),
        ...(options.fresh ? { fresh: true } : {}),
        ...(options.infoOnly || passedOver ? { infoOnly: true } : {}),
      });
      return { layer, probed };
    } catch (error) {
      await file.close();
      throw error;
    }
  }
}

/** Its present content is not what was asked for. */
function refuseSnapshot(driver: FormatDriver, path: string): void {
  if (driver.can.snapshot || driver.lifecycle) return;
  throw new VimgError('NOT_FOUND', `A ${driver.name} disk has no snapshots`, { op: 'open', path });
}

function refuseUnwritable(driver: FormatDriver, path: string): void {
  if (driver.can.write) return;
  throw new VimgError('UNSUPPORTED', `${driver.name} images can only be read in this release`, {
    op: 'open for writing',
    path,
    hint: `convert it first: vimg convert ${path} new.vvd`,
  });
}

async function chooseDriver(
  file: BlockDevice,
  options: { formats: FormatRegistry; format?: string | undefined },
): Promise<{ driver: FormatDriver; probed: boolean }> {
  if (options.format !== undefined) return { driver: options.formats.get(options.format), probed: false };
  const { driver, guessed } = await probeFormat(file, options.formats);
  return { driver, probed: guessed };
}

/** Opens the layers behind the last of `layers`, appending each: also those before one that cannot be opened. */
export async function openBehind(layers: Layer[], formats: FormatRegistry, gate: Gate): Promise<void> {
  const seen = new Set<string>();
  for (;;) {
    const child = layers[layers.length - 1] as Layer;
    const key = (await fileIdentity(child.file.name))?.identity;
    if (key !== undefined) {
      if (seen.has(key)) {
        throw new VimgError('INVALID_FORMAT', 'The chain loops: a layer stands behind itself', {
          path: child.file.name,
        });
      }
      seen.add(key);
    }
    if (!child.backing) return;
    if (layers.length >= LIMITS.chainDepth) {
      throw new VimgError('LIMIT', `The chain is deeper than ${LIMITS.chainDepth} layers`, {
        path: child.file.name,
      });
    }
    layers.push(await openParent(child, child.backing, formats, gate));
  }
}

/**
 * Opens the parent that `reference` names, and makes sure it is the one meant.
 *
 * @throws VimgError `STALE_PARENT` when it is missing or another, and what the gate throws
 */
export async function openParent(
  child: Layer,
  reference: BackingReference,
  formats: FormatRegistry,
  gate: Gate,
): Promise<Layer> {
  const file = await openParentFile(child, reference, formats, gate);
  let layer: Layer;
  try {
    const { driver } = await chooseDriver(file, { formats, format: reference.format });
    layer = await driver.open(file, { readOnly: true, gate });
  } catch (error) {
    await file.close();
    throw error;
  }
  try {
    await reference.verify?.(layer);
    return layer;
  } catch (error) {
    await layer.close();
    throw error;
  }
}

async function openParentFile(
  child: Layer,
  reference: BackingReference,
  formats: FormatRegistry,
  gate: Gate,
): Promise<BlockDevice> {
  const from = child.file.name;
  const ask = (stored: string): Promise<BlockDevice> =>
    gate({ role: 'backing', stored, from, readOnly: true, byIdentity: reference.byIdentity });
  const found = await findByIdentity(child, reference, formats);
  try {
    return await ask(found ?? reference.path);
  } catch (error) {
    if (!isVimgError(error, 'NOT_FOUND') || !reference.byIdentity) throw error;
    throw new VimgError('STALE_PARENT', `The parent '${printable(reference.path)}' is missing`, {
      op: 'open parent',
      path: from,
      hint: `if it was moved: vimg chain relocate --search DIR ${from}`,
      cause: error,
    });
  }
}

/** The file of a snapshot of the disk that it does not stand on now: one that a revert left aside. */
async function snapshotAside(
  layers: readonly Layer[],
  snapshot: string,
  lifecycle: Lifecycle,
  path: string,
): Promise<string | undefined> {
  if (layers.some(({ snapshotName }) => snapshotName === snapshot)) return undefined;
  const found = (await lifecycle.listSnapshots(path)).find(({ name }) => name === snapshot);
  return found === undefined || found.deleting ? undefined : found.path;
}

/** Keeps the layers from the one that holds the snapshot down; closes those above. */
async function cutAtSnapshot(layers: Layer[], snapshot: string, path: string): Promise<Layer[]> {
  const at = layers.findIndex((layer) => layer.snapshotName === snapshot);
  if (at < 0) {
    const names = layers.flatMap((layer) => layer.snapshotName ?? []);
    throw new VimgError('NOT_FOUND', `There is no snapshot '${printable(snapshot)}'`, {
      path,
      hint: names.length > 0 ? `snapshots of this disk: ${names.join(', ')}` : 'this disk has no snapshots',
    });
  }
  await closeAll(layers.slice(0, at));
  return layers.slice(at);
}

async function closeAll(layers: readonly Layer[]): Promise<void> {
  await Promise.allSettled(layers.map((layer) => layer.close()));
}
