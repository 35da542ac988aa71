/** The library: snapshots, clones, chains, sealing and attributes. */
import {
  type ChainLink,
  chainOf as linksOf,
  type RelocatedLink,
  relocateChain as relocate,
} from '../image/chain.ts';
import { type CloneResult, linkedClone } from '../image/clone.ts';
import type { OptionValues } from '../image/format-driver.ts';
import type { DeletePlan, LayerSnapshot, Lifecycle, LongOperation } from '../image/lifecycle.ts';
import {
  createSnapshot as create,
  lifecycleOf,
  listSnapshots as list,
  planDeleteSnapshot as plan,
  deleteSnapshot as remove,
  revertSnapshot as revert,
} from '../image/snapshot.ts';
import { type AccessOptions, accessOf, checkOptions, refuseExisting } from './access.ts';
import { diskPath, diskPaths } from './disk-path.ts';

/**
 * Takes a snapshot, in constant time: the present content of the disk becomes the read-only layer `disk@NAME.vvd`
 * beside it, and the disk goes on as an empty layer on top. Of several disks all get it or none. Atomic against a
 * crash, and durable when the promise resolves.
 *
 * @param disks paths; the disks must not be open for writing
 * @throws VimgError `EXISTS` when there is a snapshot of that name; `LOCKED`; `UNSUPPORTED` for a format other than
 *   vvd; `NO_SPACE`
 * @example
 * await createSnapshot(['root.vvd', 'data.vvd'], 'nightly');
 */
export async function createSnapshot(
  disks: string | readonly string[],
  name: string,
  options: AccessOptions = {},
): Promise<void> {
  const paths = await diskPaths(typeof disks === 'string' ? [disks] : disks);
  await create(paths, name, await accessOf(options));
}

/**
 * The snapshots of a disk, oldest first. One of them is read by `openImage(disk, { snapshot: name })`.
 *
 * @throws VimgError `NOT_FOUND`; `UNSUPPORTED` for a format other than vvd (`imageInfo` lists those inside a qcow2)
 * @example
 * const names = (await listSnapshots('disk.vvd')).map((snapshot) => snapshot.name);
 */
export async function listSnapshots(disk: string, options: AccessOptions = {}): Promise<LayerSnapshot[]> {
  return list(await diskPath(disk), await accessOf(options));
}

/**
 * Makes the disk read as at the snapshot again. What was written since is given up. One rename: atomic, and durable
 * when the promise resolves.
 *
 * @throws VimgError `NOT_FOUND`, `LOCKED`, `UNSUPPORTED`, `NO_SPACE`
 * @example
 * await revertSnapshot('disk.vvd', 'before');
 */
export async function revertSnapshot(disk: string, name: string, options: AccessOptions = {}): Promise<void> {
  await revert(await diskPath(disk), name, await accessOf(options));
}

/**
 * Tells what {@link deleteSnapshot} would do: which way data moves, and how many bytes.
 *
 * @throws VimgError `NOT_FOUND`; `LOCKED` naming the disks that stand on the snapshot
 * @example
 * const { way, bytes } = await planDeleteSnapshot('disk.vvd', 'before');
 */
export async function planDeleteSnapshot(
  disk: string,
  name: string,
  options: AccessOptions = {},
): Promise<DeletePlan> {
  return plan(await diskPath(disk), name, await accessOf(options));
}

/**
 * Deletes a snapshot; what the disk and its other snapshots read stays the same. Takes time proportional to the
 * smaller of the two layers that become one. Cancelled or killed, it is resumed by calling it again.
 *
 * @throws VimgError `NOT_FOUND`; `LOCKED` naming the disks that stand on the snapshot, or when the disk is in use;
 *   `CANCELLED`, `NO_SPACE`, `UNSUPPORTED`
 * @example
 * await deleteSnapshot('disk.vvd', 'before', { signal: AbortSignal.timeout(60_000) });
 */
export async function deleteSnapshot(
  disk: string,
  name: string,
  options: AccessOptions & LongOperation = {},
): Promise<DeletePlan> {
  return remove(await diskPath(disk), name, { ...options, ...(await accessOf(options)) });
}

export interface CloneImageOptions extends AccessOptions {
  /** Clone the disk as it was at this snapshot. */
  readonly snapshot?: string;
  /** Format of the source. Default: its content tells. */
  readonly format?: string;
  /** Options of the new vvd disk. */
  readonly options?: OptionValues;
}

/**
 * Makes a linked clone, in constant time: a new vvd disk that stands on `source` and stores only what is written to
 * it. A vvd disk that is still writable takes a snapshot first; it stays writable, and both stand on that. A base of
 * another format is used as it is: when it changes, the clone is refused as stale. For a full copy see `convertImage`.
 *
 * @returns the file that the clone stands on; `recorded` is false when that file could not be told of the clone
 * @throws VimgError `NOT_FOUND`, `EXISTS`, `LOCKED`, `STALE_PARENT`, `NO_SPACE`
 * @example
 * const { base } = await cloneImage('golden.vvd', 'web-1.vvd');
 */
export async function cloneImage(
  source: string,
  target: string,
  options: CloneImageOptions = {},
): Promise<CloneResult> {
  await refuseExisting(target);
  const access = await accessOf(options);
  const values = checkOptions(access.formats.get('vvd'), options.options ?? {});
  const { snapshot, format } = options;
  return linkedClone(await diskPath(source), target, { ...access, snapshot, format, options: values });
}

/**
 * The layers of a disk from the top down, up to the first that cannot be used; that one is `missing`, `stale` or in
 * `error`, with the reason. Takes no lock.
 *
 * @throws VimgError when the disk itself cannot be opened
 * @example
 * const broken = (await chainOf('clone.vvd')).find((link) => link.state !== 'ok');
 */
export async function chainOf(
  disk: string,
  options: AccessOptions & { readonly format?: string } = {},
): Promise<ChainLink[]> {
  const { format } = options;
  return linksOf(await diskPath(disk), {
    ...(await accessOf(options)),
    ...(format === undefined ? {} : { format }),
  });
}

/**
 * Finds parents that are not where their children say, by identity, and stores where they are.
 *
 * @param folders searched with everything below them
 * @returns the links that were changed
 * @throws VimgError `STALE_PARENT` when a parent is in none of the folders; `LOCKED`
 * @example
 * await relocateChain('clone.vvd', ['/srv/images']);
 */
export async function relocateChain(
  disk: string,
  folders: readonly string[],
  options: AccessOptions = {},
): Promise<RelocatedLink[]> {
  return relocate(await diskPath(disk), folders, await accessOf(options));
}

/**
 * Makes a vvd disk read-only for good, and stores a checksum for each block of its data: a flipped bit is an error
 * from then on, never wrong bytes. Takes time proportional to the data. Durable when the promise resolves.
 *
 * @throws VimgError `LOCKED`, `NO_SPACE`, `CANCELLED`, `UNSUPPORTED`; the disk is then as it was
 * @example
 * await sealImage('golden.vvd');
 */
export async function sealImage(disk: string, options: AccessOptions & LongOperation = {}): Promise<void> {
  await (await lifecycle(disk, options, 'seal')).seal(await diskPath(disk), options);
}

/**
 * Makes a sealed disk writable again.
 *
 * @param options `force`: also when clones are known to stand on it; they are refused as stale once it is written
 * @throws VimgError `LOCKED` naming the clones, or when the disk is in use; `UNSUPPORTED`
 * @example
 * await unsealImage('golden.vvd');
 */
export async function unsealImage(
  disk: string,
  options: AccessOptions & { readonly force?: boolean } = {},
): Promise<void> {
  await (await lifecycle(disk, options, 'unseal')).unseal(await diskPath(disk), options.force ?? false);
}

/**
 * The attributes of a vvd disk, by key: built-in ones (`label`, `description`, `provisioning`, …) and your own `x-…`.
 *
 * @throws VimgError `NOT_FOUND`, `CORRUPT`, `UNSUPPORTED`
 * @example
 * const label = (await readAttributes('disk.vvd')).get('label');
 */
export async function readAttributes(
  disk: string,
  options: AccessOptions = {},
): Promise<Map<string, string | number | boolean>> {
  return (await lifecycle(disk, options, 'read attributes')).readAttributes(await diskPath(disk));
}

/**
 * Sets attributes, and removes those whose value is undefined; all at once, without touching data. Durable when the
 * promise resolves.
 *
 * @throws VimgError `USAGE` for an unknown name (your own begin with `x-`) or a value that does not fit; `LIMIT` past
 *   64 attributes, 128 bytes of a key or 4 KiB of a value; `LOCKED`, `UNSUPPORTED`
 * @example
 * await changeAttributes('disk.vvd', { label: 'web-1', 'x-owner': 'ops', 'x-old': undefined });
 */
export async function changeAttributes(
  disk: string,
  change: Readonly<Record<string, string | undefined>>,
  options: AccessOptions = {},
): Promise<void> {
  const attributes = new Map(Object.entries(change));
  await (await lifecycle(disk, options, 'change attributes')).changeAttributes(
    await diskPath(disk),
    attributes,
  );
}

async function lifecycle(disk: string, options: AccessOptions, op: string): Promise<Lifecycle> {
  return lifecycleOf(await diskPath(disk), (await accessOf(options)).formats, op);
}
