/** What works in VVD disks that are open and in use: snapshots and attributes. */
import { invariant, VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import type { OpenDiskOperations, OpenSnapshot, OpenTop, TakenSnapshot } from '../../src/image/lifecycle.ts';
import { changeOpenAttributes, recordOpenClone } from './attribute-change.ts';
import {
  distinctDisks,
  type OpenVvdFile,
  openForChange,
  realDisk,
  refuseWithoutFolder,
} from './disk-file.ts';
import { VvdLayer } from './layer.ts';
import { deleteOpenSnapshot } from './merge-open.ts';
import { openVvd } from './open.ts';
import { StagedSnapshot } from './snapshot-create.ts';

export const openDiskOperations: OpenDiskOperations = {
  stageSnapshot,
  deleteSnapshot: deleteOpenSnapshot,
  async recordClone(layer, disk, clone) {
    invariant(layer instanceof VvdLayer, 'the layer is one of this format');
    await recordOpenClone(layer, await realDisk(disk), clone);
  },
  async changeAttributes(layer, change) {
    invariant(layer instanceof VvdLayer, 'the layer is one of this format');
    await changeOpenAttributes(layer, change);
  },
};

async function stageSnapshot(
  tops: readonly OpenTop[],
  closed: readonly string[],
  name: string,
): Promise<OpenSnapshot> {
  const open: OpenVvdFile[] = [];
  for (const path of [...tops.map((top) => top.path), ...closed]) refuseWithoutFolder(path, 'snapshot');
  for (const { path, layer, blocking } of tops) {
    invariant(layer instanceof VvdLayer, 'the layer is one of this format');
    layer.vvdWriter?.throwFailure();
    open.push({ path: await realDisk(path), file: diskFile(layer.file), layer, blocking });
  }
  const others: OpenVvdFile[] = [];
  try {
    for (const path of await distinctDisks(closed)) others.push(await openForChange(path));
    const staged = await StagedSnapshot.make([...open, ...others], name);
    return new SnapshotOfOpenDisks(open, others, staged);
  } catch (error) {
    await closeAll(others);
    throw error;
  }
}

class SnapshotOfOpenDisks implements OpenSnapshot {
  readonly #open: readonly OpenVvdFile[];
  readonly #others: readonly OpenVvdFile[];
  readonly #staged: StagedSnapshot;

  constructor(open: readonly OpenVvdFile[], others: readonly OpenVvdFile[], staged: StagedSnapshot) {
    this.#open = open;
    this.#others = others;
    this.#staged = staged;
  }

  async take(): Promise<TakenSnapshot[]> {
    try {
      await this.#staged.take();
    } catch (error) {
      await closeAll(this.#others);
      throw error;
    }
    try {
      const taken: TakenSnapshot[] = [];
      for (const [index, { layer }] of this.#open.entries()) {
        const file = this.#staged.tops[index] as DiskFile;
        const top = await openVvd(file, { readOnly: false, gate: closedGate });
        taken.push({ top, sealed: layer.sealedView() });
      }
      return taken;
    } catch (error) {
      for (const { layer } of this.#open) layer.metadata.fail(error); // the disk's name means another file already
      throw error;
    }
  }

  /** The layers stay open for those who read them, and let others read them too. */
  async finish(): Promise<void> {
    try {
      await this.#staged.finish();
      for (const { file } of this.#open) await file.changeLock('read');
    } finally {
      await closeAll(this.#others);
      for (const file of this.#staged.tops.slice(this.#open.length)) await file.close();
    }
  }

  async discard(): Promise<void> {
    await this.#staged.discard();
    await closeAll(this.#others);
  }
}

async function closeAll(files: readonly OpenVvdFile[]): Promise<void> {
  for (const { file } of files) await file.close();
}

/** @throws VimgError `UNSUPPORTED` for a layer in something that has no name */
function diskFile(file: BlockDevice): DiskFile {
  if ('changeLock' in file) return file as DiskFile;
  throw new VimgError('UNSUPPORTED', 'The disk lies in no file of its own', {
    op: 'snapshot',
    path: file.name,
  });
}
