/** Where the files of a volume that was left in order lie on its devices. */
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { Block } from '../../src/vims/block.ts';
import { nextLeaf, readEntries } from '../../src/vims/block-tree.ts';
import { entryCluster } from '../../src/vims/cluster-map.ts';
import { DeviceSet } from '../../src/vims/device-set.ts';
import { Directory } from '../../src/vims/directory.ts';
import { readInode } from '../../src/vims/inode.ts';
import { CONTENT, INODE_AT } from '../../src/vims/layout.ts';
import { Metadata } from '../../src/vims/metadata.ts';
import { Space } from '../../src/vims/space.ts';
import { readVolume } from '../../src/vims/superblock.ts';

export interface FileLayout {
  readonly path: string;
  /** Clusters that it has. */
  readonly clusters: number;
  /** Runs of them that follow each other in the file: what there is at best. */
  readonly islands: number;
  /** Runs that follow each other in the file and on the device. */
  readonly runs: number;
  /** Clusters of the longest of these. */
  readonly longest: number;
}

export async function layoutOfFiles(device: BlockDevice): Promise<FileLayout[]> {
  const { uuid, root, devices } = await readVolume([device]);
  const metadata = new Metadata(new DeviceSet([device]), uuid, undefined, 0, () => undefined);
  const space = await Space.open(
    metadata,
    devices.map(({ clusters }) => clusters),
  );
  const found: FileLayout[] = [];
  const folder = new Directory(metadata, space, await readInode(metadata, root));
  for await (const { name, inode } of folder.list()) {
    const block = metadata.pin(await readInode(metadata, inode));
    if (block.view.getUint8(INODE_AT.content) === CONTENT.tree) {
      found.push({ path: name, ...(await layoutOf(metadata, block)) });
    }
    block.pins--;
  }
  return found;
}

async function layoutOf(metadata: Metadata, inode: Block): Promise<Omit<FileLayout, 'path'>> {
  const sums = { clusters: 0, islands: 0, runs: 0, longest: 0 };
  let last = { index: -2, cluster: -2 };
  let length = 0;
  for (let at = await nextLeaf(metadata, inode, 0); at !== undefined; ) {
    const entries = await readEntries(metadata, inode, at);
    for (let i = 0; i < (entries?.count ?? 0); i++) {
      const cluster = entries ? entryCluster(entries.block.view, entries.offset + i * 8) : 0;
      if (cluster === 0) continue;
      const index: number = at + i;
      sums.clusters++;
      const isNext = index === last.index + 1;
      if (!isNext) sums.islands++;
      length = isNext && cluster === last.cluster + 1 ? length + 1 : 1;
      if (length === 1) sums.runs++;
      sums.longest = Math.max(sums.longest, length);
      last = { index, cluster };
    }
    at = await nextLeaf(metadata, inode, at + (entries?.count ?? 1));
  }
  return sums;
}
