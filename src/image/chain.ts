/** A chain as it stands: each layer, and for the one that is missing or changed, why; and finding moved parents. */
import { isVimgError, VimgError } from '../base/errors.ts';
import { joinPath } from '../device/file-path.ts';
import { fileStatus, listFolder } from '../device/files.ts';
import { storedReference } from './create-image.ts';
import type { Gate } from './gate.ts';
import { folderGate, printable, resolveReference } from './gate-policies.ts';
import type { Layer } from './layer.ts';
import type { LifecycleContext } from './lifecycle.ts';
import { openLayers, openParent } from './open-chain.ts';
import { searchFolder } from './parent-search.ts';

export interface ChainLink {
  readonly path: string;
  readonly format?: string;
  readonly virtualSize?: number;
  readonly uuid?: string;
  readonly snapshot?: string;
  readonly state: 'ok' | 'missing' | 'stale' | 'error';
  /** What is wrong, for a link that is not ok. */
  readonly problem?: string;
}

/** The layers of a disk from the top down, up to the first that cannot be used. */
export async function chainOf(
  path: string,
  context: LifecycleContext & { format?: string },
): Promise<ChainLink[]> {
  const { layers } = await openLayers(path, { ...context, backing: false, lock: false });
  const gate = context.gate ?? folderGate({ allow: context.allow ?? [], any: context.allowAny ?? false });
  const links: ChainLink[] = [];
  try {
    for (;;) {
      const layer = layers[layers.length - 1] as Layer;
      links.push(linkOf(layer));
      if (!layer.backing) return links;
      const next = await tryParent(layer, context, gate);
      if ('state' in next) return [...links, next];
      if (layers.some((known) => known.file.name === next.file.name)) {
        await next.close();
        return [...links, { path: next.file.name, state: 'error', problem: 'the chain loops' }];
      }
      layers.push(next);
    }
  } finally {
    for (const layer of layers) await layer.close();
  }
}

function linkOf(layer: Layer): ChainLink {
  return {
    path: layer.file.name,
    format: layer.format,
    virtualSize: layer.virtualSize,
    ...(layer.identity ? { uuid: layer.identity.uuid } : {}),
    ...(layer.snapshotName === undefined ? {} : { snapshot: layer.snapshotName }),
    state: 'ok',
  };
}

async function tryParent(layer: Layer, context: LifecycleContext, gate: Gate): Promise<Layer | ChainLink> {
  const { backing } = layer;
  const place = resolveReference(printable(backing?.path ?? ''), layer.file.name);
  try {
    return await openParent(layer, backing as NonNullable<typeof backing>, context.formats, gate);
  } catch (error) {
    if (!isVimgError(error)) throw error;
    const missing = error.code === 'NOT_FOUND' || isVimgError(error.cause, 'NOT_FOUND');
    const state = missing ? 'missing' : error.code === 'STALE_PARENT' ? 'stale' : 'error';
    return { path: place, state, problem: error.message };
  }
}

/** Folders looked through by one relocation. */
const FOLDERS_LIMIT = 10_000;

export interface RelocatedLink {
  readonly layer: string;
  readonly parent: string;
}

/**
 * Finds parents that are not where their children say, by identity, and stores where they are.
 *
 * @param folders searched with everything below them
 * @returns the links that were changed
 * @throws VimgError `STALE_PARENT` when a parent is in none of the folders
 */
export async function relocateChain(
  path: string,
  folders: readonly string[],
  context: LifecycleContext,
): Promise<RelocatedLink[]> {
  const changed: RelocatedLink[] = [];
  const gate =
    context.gate ??
    folderGate({ allow: [...(context.allow ?? []), ...folders], any: context.allowAny ?? false });
  for (let at: string | undefined = path; at !== undefined; ) {
    const { layers } = await openLayers(at, { ...context, backing: false, lock: false });
    const layer = layers[0] as Layer;
    const { backing } = layer;
    await layer.close();
    if (!backing) return changed;
    const parent = (await usableParent(layer, context, gate)) ?? (await search(layer, folders, context));
    const stored = storedReference(parent, at);
    if (stored !== backing.path && resolveReference(backing.path, at) !== parent) {
      await context.formats.get(layer.format).lifecycle?.changeParentPath(at, stored);
      changed.push({ layer: at, parent });
    }
    at = parent;
  }
  return changed;
}

/** Where the parent is, when it opens from its stored place or from beside the child. */
async function usableParent(
  layer: Layer,
  context: LifecycleContext,
  gate: Gate,
): Promise<string | undefined> {
  const found = await tryParent(layer, context, gate);
  if ('state' in found) return undefined;
  const path = found.file.name;
  await found.close();
  return path;
}

async function search(layer: Layer, folders: readonly string[], context: LifecycleContext): Promise<string> {
  const reference = layer.backing as NonNullable<Layer['backing']>;
  const queue = [...folders];
  for (let looked = 0; queue.length > 0 && looked < FOLDERS_LIMIT; looked++) {
    const folder = queue.shift() as string;
    const found = await searchFolder(folder, reference, context.formats);
    if (found !== undefined) return found;
    for (const name of await listFolder(folder)) {
      const path = joinPath(folder, name);
      if ((await fileStatus(path))?.kind === 'folder') queue.push(path);
    }
  }
  throw new VimgError(
    'STALE_PARENT',
    `The parent '${printable(reference.path)}' is in none of the folders searched`,
    {
      op: 'relocate',
      path: layer.file.name,
      hint: 'name the folder it is in with --search',
    },
  );
}
