/**
 * Taking a snapshot, in constant time: the present file becomes the layer `disk@NAME.vvd`, sealed, and a new empty
 * layer takes the disk's name.
 *
 * 1. The new layer is made and synced under a staging name, and stays open and locked.
 * 2. The disk's header gets the snapshot intent (sealed, names), durably.
 * 3. The layer's name is linked to the file; the folder is synced.
 * 4. The staged layer is renamed over the disk's name: the moment it happens. The folder is synced.
 * 5. The intent is dropped.
 *
 * Several disks: steps 1 to 3 for each, then a group record is written, which is the moment for all, then 4 and 5.
 * A crash anywhere is settled by snapshot-settle.ts.
 *
 * The same steps are taken for a disk that nobody has open and for one that is being written: there steps 2 to 4 are
 * taken while nothing is under way, and both files stay open and locked throughout, so that no other process finds a
 * moment to take the disk.
 */
import { fromSystemError, VimgError } from '../../src/base/errors.ts';
import { newUuid } from '../../src/binary/uuid.ts';
import { folderOf, joinPath, nameOf, relativePath } from '../../src/device/file-path.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import {
  fileExists,
  fileStatus,
  hostPathOf,
  linkFile,
  openFile,
  removeFile,
  renameFile,
  replaceFile,
  syncFolder,
} from '../../src/device/files.ts';
import { placeOf } from '../../src/device/mounts.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { stageAttributes } from './attributes.ts';
import { refuseDeepChain } from './chain-depth.ts';
import { createVvd } from './create.ts';
import { distinctDisks, type OpenVvdFile, openForChange, refuseWithoutFolder } from './disk-file.ts';
import { CLONES_ATTRIBUTE } from './family.ts';
import { checkSnapshotName, layerPathOf, stagedPathOf } from './file-names.ts';
import { readHeader, setHeaderText, writeHeader } from './header.ts';
import { compressionName } from './info.ts';
import type { VvdLayer } from './layer.ts';
import { type Header, INCOMPATIBLE_SEALED, INTENT_SNAPSHOT } from './layout.ts';
import { dropIntent, undoSnapshot } from './snapshot-settle.ts';

/** @throws VimgError `EXISTS` when one of the disks has a snapshot of this name, `LOCKED`, `NO_SPACE`, `LIMIT` */
export async function createSnapshot(paths: readonly string[], name: string): Promise<void> {
  checkSnapshotName(name);
  for (const path of paths) refuseWithoutFolder(path, 'snapshot');
  const disks = await distinctDisks(paths);
  const opened: OpenVvdFile[] = [];
  try {
    for (const path of disks) {
      const disk = await openForChange(path);
      opened.push(disk);
      await refuseDeepChain(path, disk.layer.header);
    }
    const staged = await StagedSnapshot.make(opened, name);
    try {
      await staged.take();
      await staged.finish();
    } finally {
      await staged.closeTops();
    }
  } finally {
    for (const disk of opened) await disk.file.close();
  }
}

/** A snapshot of one or several disks whose new layers are made, and open and locked. */
export class StagedSnapshot {
  readonly #disks: readonly OpenVvdFile[];
  /** What the disks are called. */
  readonly #names: readonly string[];
  readonly #name: string;
  readonly #tops: DiskFile[] = [];
  /** What each new layer was made for; the disk may have changed since. */
  readonly #madeFor: string[] = [];
  #record: string | undefined;

  private constructor(disks: readonly OpenVvdFile[], names: readonly string[], name: string) {
    this.#disks = disks;
    this.#names = names;
    this.#name = name;
  }

  /** Step 1. @param disks open and locked for writing, each once; they stay the caller's */
  static async make(disks: readonly OpenVvdFile[], name: string): Promise<StagedSnapshot> {
    checkSnapshotName(name);
    for (const disk of disks) await refuseExisting(disk, name);
    const names = disks.map(({ path }) => path);
    const staged = new StagedSnapshot(await seenFromOnePlace(disks), names, name);
    await refuseApart(staged.#disks, names);
    try {
      for (const index of disks.keys()) await staged.#stage(index);
      return staged;
    } catch (error) {
      await staged.discard();
      throw fromSystemError(error, { op: 'snapshot', path: disks[0]?.path ?? '' });
    }
  }

  /** The files of the new layers, in the order of the disks. */
  get tops(): readonly DiskFile[] {
    return this.#tops;
  }

  /**
   * Steps 2 to 4, while nothing else is done with the disks. Afterwards each new layer has the disk's name, and the
   * file that the disk was is its layer, sealed. When it fails the disks are as before; where not even that can be
   * told, they refuse everything from then on.
   */
  async take(): Promise<void> {
    const disks = this.#disks;
    const [first] = disks;
    if (!first) return;
    if (disks.length > 1) this.#record = joinPath(folderOf(first.path), `.vimg-snapshot-${newUuid()}`);
    const begun: OpenVvdFile[] = [];
    try {
      for (const [index, disk] of disks.entries()) {
        if (this.#madeFor[index] !== stateOf(disk.layer)) await this.#stage(index);
        begun.push(disk);
        await this.#seal(disk);
      }
      if (this.#record !== undefined) {
        await replaceFile(this.#record, `${disks.map((disk) => disk.path).join('\n')}\n`);
      }
    } catch (error) {
      for (const disk of begun) await this.#undo(disk);
      await this.discard();
      throw fromSystemError(error, { op: 'snapshot', path: first.path });
    }
    try {
      for (const index of disks.keys()) await this.#rename(index);
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /** Step 5: what is left once the snapshot happened. The disks may be in use again. */
  async finish(): Promise<void> {
    for (const { file, layer } of this.#disks) {
      await dropIntent(file, layer.header);
      await layer.vvdWriter?.giveBack();
    }
    if (this.#record === undefined) return;
    for (const { file } of this.#disks) await file.flush();
    await removeFile(this.#record);
  }

  /** Closes the new layers; for disks that nobody goes on using. */
  async closeTops(): Promise<void> {
    for (const file of this.#tops) await file.close();
  }

  /** Removes the new layers: the snapshot is not taken. */
  async discard(): Promise<void> {
    await this.closeTops();
    for (const [index, disk] of this.#disks.entries()) {
      const staged = stagedPathOf(disk.path, this.#name);
      if (this.#tops[index] !== undefined && (await fileExists(staged))) await removeFile(staged);
    }
  }

  async #stage(index: number): Promise<void> {
    const disk = this.#disks[index] as OpenVvdFile;
    const { path, layer } = disk;
    await this.#tops[index]?.close();
    this.#tops[index] = await stageTop(
      disk,
      relativePath(folderOf(path), layerPathOf(path, this.#name)),
      stagedPathOf(path, this.#name),
      layer.virtualSize,
      { blocking: disk.blocking ?? true },
    );
    this.#madeFor[index] = stateOf(layer);
  }

  /** Steps 2 and 3 for one disk. */
  async #seal({ path, layer }: OpenVvdFile): Promise<void> {
    const folder = folderOf(path);
    const group = this.#record === undefined ? '' : relativePath(folder, this.#record);
    const change = (header: Header): void => {
      header.incompatible |= INCOMPATIBLE_SEALED;
      header.sealedMs = Date.now();
      header.intent = INTENT_SNAPSHOT;
      header.snapshotNameLength = setHeaderText(header.snapshotName, this.#name, 'The name of the snapshot');
      header.intentNameLength = setHeaderText(header.intentName, nameOf(path), 'The name of the disk');
      header.groupPathLength = setHeaderText(header.groupPath, group, 'The path of the group record');
    };
    await layer.vvdWriter?.rest(change);
    await linkFile(path, layerPathOf(path, this.#name));
    await syncFolder(folder);
  }

  /** Step 4 for one disk. */
  async #rename(index: number): Promise<void> {
    const { path, file } = this.#disks[index] as OpenVvdFile;
    const top = this.#tops[index] as DiskFile;
    await renameFile(stagedPathOf(path, this.#name), path);
    top.name = this.#names[index] as string;
    file.name = layerPathOf(top.name, this.#name);
    await syncFolder(folderOf(path));
  }

  async #undo({ path, file, layer }: OpenVvdFile): Promise<void> {
    try {
      await undoSnapshot(file, layer.header, path, this.#name);
    } catch (error) {
      layer.metadata.fail(error);
    }
  }

  /** Whether the names changed is not known: nothing more is written here, and the next open settles it. */
  #fail(error: unknown): VimgError {
    const failure = fromSystemError(error, { op: 'snapshot', path: this.#disks[0]?.path ?? '' });
    for (const { layer } of this.#disks) layer.metadata.fail(failure);
    return failure;
  }
}

/** What a new layer takes from the one that it stands on. */
function stateOf({ header }: VvdLayer): string {
  return `${header.contentId} ${header.virtualSize} ${header.attributesSlot} ${header.attributesCrc}`;
}

async function refuseExisting(disk: OpenVvdFile, name: string): Promise<void> {
  const layer = layerPathOf(disk.path, name);
  if (!(await fileExists(layer))) return;
  throw new VimgError('EXISTS', `There is a snapshot '${name}' already`, {
    op: 'snapshot',
    path: layer,
    hint: `delete it first: vimg snapshot -d ${name} ${disk.path}`,
  });
}

/**
 * The record of a group lies in one folder, and each disk has to name it. Disks in several places are called by their
 * paths on the host, where they have one.
 */
async function seenFromOnePlace(disks: readonly OpenVvdFile[]): Promise<readonly OpenVvdFile[]> {
  if (new Set(disks.map(({ path }) => placeOf(path))).size < 2) return disks;
  return Promise.all(
    disks.map(async (disk) => ({ ...disk, path: (await hostPathOf(disk.path)) ?? disk.path })),
  );
}

/**
 * One record decides for the whole group. After a crash, a disk on another file system would be opened without it while
 * that is not mounted, and would decide otherwise.
 *
 * @param names what messages call the disks
 * @throws VimgError `UNSUPPORTED` when the disks are not on one file system
 */
async function refuseApart(disks: readonly OpenVvdFile[], names: readonly string[]): Promise<void> {
  const volumes = await Promise.all(disks.map(({ path }) => volumeOf(path)));
  const apart = volumes.findIndex((volume) => volume !== volumes[0]);
  if (apart < 0) return;
  throw new VimgError('UNSUPPORTED', `It is not on the file system of '${names[0]}'`, {
    op: 'snapshot',
    path: names[apart] as string,
    hint: 'disks on several file systems cannot change at one instant: take a snapshot of each',
  });
}

async function volumeOf(path: string): Promise<string> {
  return `${placeOf(path) ?? ''} ${(await fileStatus(path))?.volume ?? ''}`;
}

/**
 * Makes an empty layer on `base`, durable, under a staging name. It keeps the attributes of the disk.
 *
 * @returns its file, open and locked for writing
 * @param stored how the new layer names its parent
 */
export async function stageTop(
  base: { readonly layer: VvdLayer },
  stored: string,
  staged: string,
  virtualSize: number,
  { attributesFrom = base.layer, blocking = true }: { attributesFrom?: VvdLayer; blocking?: boolean } = {},
): Promise<DiskFile> {
  if (await fileExists(staged)) await removeFile(staged); // from an attempt that never began: the disk has no intent
  const { header } = base.layer;
  const file = await openFile(staged, { readOnly: false, create: 'exclusive', lock: 'write', blocking });
  try {
    await createVvd(file, {
      virtualSize,
      options: { block_size: 2 ** header.blockShift, compression: compressionName(header.compression) },
      backing: { path: stored, format: 'vvd', layer: base.layer },
      gate: closedGate,
    });
    const attributes = new Map(attributesFrom.attributes);
    attributes.delete(CLONES_ATTRIBUTE); // clones stand on what was written, not on the new layer
    if (attributes.size > 0) {
      const top = await readHeader(file);
      await stageAttributes(file, top, attributes);
      await writeHeader(file, top);
    }
    await file.flush();
    return file;
  } catch (error) {
    await file.close();
    await removeFile(staged);
    throw error;
  }
}
