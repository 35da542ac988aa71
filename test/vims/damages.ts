/** Damage to every structure of the sample volume, most of it with right checksums. */
import { expect } from 'vitest';
import { getU64, setU64 } from '../../src/vims/block.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  clusterOfBlock,
  clusterOnDevice,
  groupStart,
} from '../../src/vims/geometry.ts';
import { DIRECTORY_AT, GROUP_AT, HEADER, INODE_AT, TREE_AT } from '../../src/vims/layout.ts';
import { slotAddress } from '../../src/vims/slot.ts';
import { edit, readBlock, ruin, type Sample, treeBlocks } from './sample-volume.ts';

const GROUP = groupStart(0) * BLOCKS_PER_CLUSTER;
const ROOT = GROUP + 5;
const ORPHANS = ROOT + 1;
const JOURNAL = (groupStart(0) + 1) * BLOCKS_PER_CLUSTER;

export interface Damage {
  readonly name: string;
  readonly harm: (volume: Sample) => void;
  /** What the check says. */
  readonly says: RegExp;
  /** What it says after a repair, when that mends a part. */
  readonly leaves?: RegExp;
  /** Whether a repair puts everything right. */
  readonly mends: boolean;
}

function field(inode: string, offset: number, size: 1 | 4 | 8, value: number): Damage['harm'] {
  return ({ devices, inodes }) =>
    edit(devices, inodes[inode] as number, (view) => {
      if (size === 1) view.setUint8(offset, value);
      else if (size === 4) view.setUint32(offset, value, true);
      else setU64(view, offset, value);
    });
}

/** Where the count of the cluster of an entry is. */
function countOf(
  { devices, inodes }: Sample,
  path: string,
  entry: number,
): { block: number; offset: number } {
  const { view } = readBlock(devices, inodes[path] as number);
  const i = view.getUint32(INODE_AT.payload + entry * 8, true) - groupStart(0);
  return { block: GROUP + 1 + Math.floor(i / 2016), offset: HEADER + (i % 2016) * 2 };
}

function setCount(path: string, entry: number, count: number): Damage['harm'] {
  return (volume) => {
    const { block, offset } = countOf(volume, path, entry);
    edit(volume.devices, block, (view) => view.setUint16(offset, count, true));
  };
}

function setEntry(path: string, entry: number, value: bigint): Damage['harm'] {
  return ({ devices, inodes }) =>
    edit(devices, inodes[path] as number, (view) =>
      view.setBigUint64(INODE_AT.payload + entry * 8, value, true),
    );
}

/** The first bucket of the folder with many names. */
function bucket({ devices, inodes }: Sample): number {
  const { view } = readBlock(devices, inodes['many'] as number);
  return getU64(view, INODE_AT.payload);
}

export const DAMAGES: readonly Damage[] = [
  ...[0, 2, 1024 * 256].map(
    (block): Damage => ({
      name: `superblock copy in block ${block}`,
      harm: ({ devices }) => ruin(devices, block),
      says: new RegExp(`superblock in block ${block} of device 0: its checksum`),
      mends: true,
    }),
  ),
  {
    name: 'superblock that says something else',
    harm: ({ devices }) => edit(devices, 1024 * 256, (view) => setU64(view, HEADER + 56, 12345)),
    says: /superblock in block 262144 of device 0: it says something else/,
    mends: true,
  },
  {
    name: 'both superblocks in front of one device',
    harm: ({ devices }) => {
      ruin(devices, blockAddress(1, 0));
      ruin(devices, blockAddress(1, 2));
    },
    says: /superblock in block 0 of device 1/,
    mends: true,
  },
  {
    name: 'device record, lost',
    harm: ({ devices }) => ruin(devices, blockAddress(0, 1)),
    says: /record of device 0 .*checksum.*1 groups are in use/,
    mends: true,
  },
  {
    name: 'device record that claims too few',
    harm: ({ devices }) => edit(devices, blockAddress(0, 1), (view) => view.setUint32(HEADER, 0, true)),
    says: /record of device 0 .*claims 0 groups; 1 groups are in use/,
    mends: true,
  },
  {
    name: 'device record that claims too many',
    harm: ({ devices }) => edit(devices, blockAddress(1, 1), (view) => view.setUint32(HEADER, 1, true)),
    says: /record of device 1 .*claims 1 groups; 0 groups/,
    mends: true,
  },
  {
    name: 'slot',
    harm: ({ devices }) => ruin(devices, slotAddress(0)),
    says: /slot 0.*checksum/,
    mends: false,
  },
  {
    name: 'slot whose journal is elsewhere',
    harm: ({ devices }) => edit(devices, slotAddress(0), (view) => setU64(view, HEADER + 8, 2 ** 40)),
    says: /slot 0.*its journal is outside/,
    mends: false,
  },
  {
    name: 'slot whose orphans are another folder',
    harm: ({ devices, inodes }) =>
      edit(devices, slotAddress(0), (view) => setU64(view, HEADER + 16, inodes['vm1'] as number)),
    says: /without a name/,
    mends: false,
  },
  {
    name: 'header of the journal',
    harm: ({ devices }) => ruin(devices, JOURNAL),
    says: /the journal.*checksum/,
    mends: false,
  },
  {
    name: 'group header',
    harm: ({ devices }) => ruin(devices, GROUP),
    says: /header of group 0.*files in it: .*'vm1/,
    mends: true,
  },
  {
    name: 'group of another number',
    harm: ({ devices }) => edit(devices, GROUP, (view) => view.setUint32(HEADER, 3, true)),
    says: /group 0 claims to be group 3/,
    mends: true,
  },
  {
    name: 'group with other clusters',
    harm: ({ devices }) => edit(devices, GROUP, (view) => view.setUint32(GROUP_AT.clusters, 500, true)),
    says: /group 0 claims 500 clusters, and has 1096/,
    mends: true,
  },
  {
    name: 'group with more free clusters',
    harm: ({ devices }) => edit(devices, GROUP, (view) => view.setUint32(GROUP_AT.freeClusters, 2000, true)),
    says: /group 0 claims 2000 free clusters/,
    mends: true,
  },
  {
    name: 'group with fewer free blocks',
    harm: ({ devices }) => edit(devices, GROUP, (view) => view.setUint32(GROUP_AT.freeBlocks, 0, true)),
    says: /group 0 claims 0 free blocks/,
    mends: true,
  },
  {
    name: 'counts, lost',
    harm: ({ devices }) => ruin(devices, GROUP + 1),
    says: /counts of group 0.*what they count: .*'vm1\/.*bytes 0 to/,
    mends: true,
  },
  {
    name: 'count too low',
    harm: setCount('vm1/root.vvd', 1, 1),
    says: /used once, and 2 entries lead to it: '(vm1\/root.vvd|linked|vm1\/copy.vvd)', bytes 1048576 to 2097151; '.*', bytes 1048576 to 2097151/,
    mends: true,
  },
  {
    name: 'count of a cluster in use is 0',
    harm: setCount('vm1/copy.vvd', 0, 0),
    says: /counted as free, and one entry leads to it: 'vm1\/copy.vvd', bytes 0 to 1048575/,
    mends: true,
  },
  {
    name: 'count too high',
    harm: setCount('vm1/root.vvd', 0, 7),
    says: /counted more often than files have it/,
    mends: true,
  },
  {
    name: 'count of metadata for a cluster of a file',
    harm: setCount('vm1/root.vvd', 0, 0xffff),
    says: /counted as metadata, and one entry leads to it: '.*', bytes 0 to 1048575/,
    mends: true,
  },
  {
    name: 'cluster that nobody has',
    harm: ({ devices }) => edit(devices, GROUP + 1, (view) => view.setUint16(HEADER + 1000 * 2, 1, true)),
    says: /1 MiB are counted as used, and no file has them/,
    mends: true,
  },
  {
    name: 'journal that may be given away',
    harm: ({ devices }) => edit(devices, GROUP + 1, (view) => view.setUint16(HEADER + 2 * 2, 0, true)),
    says: /of a journal or a superblock: counted as free/,
    mends: true,
  },
  {
    name: 'block of a file that may be given away',
    harm: ({ devices, inodes }) => {
      const at = (inodes['vm1/note'] as number) - GROUP;
      edit(devices, GROUP, (view) =>
        view.setUint8(
          GROUP_AT.bitmap + (at >> 3),
          view.getUint8(GROUP_AT.bitmap + (at >> 3)) & ~(1 << (at & 7)),
        ),
      );
    },
    says: /may be given away although in use: 'vm1\/note'/,
    mends: true,
  },
  {
    name: 'metadata cluster whose bitmap is lost',
    harm: ({ devices, inodes }) => {
      const cluster = clusterOnDevice(clusterOfBlock(inodes['many/disk-7'] as number));
      const last = clusterOnDevice(clusterOfBlock(lastBlock(devices)));
      expect(last).not.toBe(groupStart(0));
      ruin(devices, (last === cluster ? cluster : last) * BLOCKS_PER_CLUSTER);
    },
    says: /the bitmap of metadata cluster .* is damaged; in it: .*'many\/disk/,
    mends: true,
  },
  {
    name: 'inode, lost',
    harm: ({ devices, inodes }) => ruin(devices, inodes['vm1/note'] as number),
    says: /'vm1\/note': its inode.*checksum/,
    mends: false,
  },
  {
    name: 'inode kind',
    harm: field('vm1/note', INODE_AT.kind, 1, 9),
    says: /'vm1\/note': its inode.*kind is 9/,
    mends: false,
  },
  {
    name: 'inode content',
    harm: field('vm1/note', INODE_AT.content, 1, 9),
    says: /'vm1\/note': its inode.*content/,
    mends: false,
  },
  {
    name: 'inode of another kind',
    harm: field('vm1/empty', INODE_AT.kind, 1, 2),
    says: /'vm1\/empty' is a file in its folder, and a folder itself/,
    mends: false,
  },
  {
    name: 'inode depth',
    harm: field('vm1/sparse.raw', INODE_AT.depth, 1, 7),
    says: /'vm1\/sparse.raw'.*too deep/,
    mends: false,
  },
  {
    name: 'inode size',
    harm: field('vm1/note', INODE_AT.size, 8, 5000),
    says: /'vm1\/note'.*5000 bytes cannot be in it/,
    mends: false,
  },
  {
    name: 'links too low',
    harm: field('linked', INODE_AT.links, 4, 1),
    says: /has 2 names, and says that it has 1/,
    mends: true,
  },
  {
    name: 'links too high',
    harm: field('vm1/note', INODE_AT.links, 4, 5),
    says: /'vm1\/note' has 1 names, and says that it has 5/,
    mends: true,
  },
  {
    name: 'links 0',
    harm: field('vm1/note', INODE_AT.links, 4, 0),
    says: /'vm1\/note' has 1 names, and says that it has 0/,
    mends: true,
  },
  {
    name: 'clusters',
    harm: field('vm1/sparse.raw', INODE_AT.clusters, 8, 99),
    says: /'vm1\/sparse.raw' claims 99 clusters and has 3/,
    mends: true,
  },
  {
    name: 'number of names',
    harm: field('vm1', INODE_AT.entries, 4, 1),
    says: /folder 'vm1' claims 1 names and has 5/,
    mends: true,
  },
  {
    name: 'parent',
    harm: field('vm1', INODE_AT.parent, 8, 77),
    says: /folder 'vm1' says that it is in block 77/,
    mends: true,
  },
  {
    name: 'seed of the hash',
    harm: field('vm1', INODE_AT.seed, 4, 77),
    says: /'vm1\/note': the name has a wrong hash/,
    mends: false,
  },
  {
    name: 'bits of the hash',
    harm: field('many', INODE_AT.hashBits, 1, 9),
    says: /folder 'many' lacks .* of its 512 buckets/,
    mends: false,
  },
  {
    name: 'tree block, lost',
    harm: (volume) =>
      ruin(volume.devices, treeBlocks(volume, volume.inodes['vm1/sparse.raw'] as number)[1] as number),
    says: /'vm1\/sparse.raw', bytes 0 to 526385151: tree block/,
    mends: false,
  },
  {
    name: 'tree block of another place',
    harm: (volume) =>
      edit(
        volume.devices,
        treeBlocks(volume, volume.inodes['vm1/sparse.raw'] as number)[1] as number,
        (view) => view.setUint32(TREE_AT.first, 502, true),
      ),
    says: /'vm1\/sparse.raw', bytes 0 to 526385151: tree block.*another place/,
    mends: false,
  },
  {
    name: 'tree block of another file',
    harm: (volume) =>
      edit(
        volume.devices,
        treeBlocks(volume, volume.inodes['vm1/sparse.raw'] as number)[0] as number,
        (view) => view.setUint32(40, 1, true),
      ),
    says: /'vm1\/sparse.raw', bytes 0 to .*another file/,
    mends: false,
  },
  {
    name: 'entry without a cluster',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0000_0000_0000n),
    says: /bytes 0 to 1048575: an entry has no cluster/,
    mends: false,
  },
  {
    name: 'entry with bits that mean nothing',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0100_0000_0010n),
    says: /bytes 0 to 1048575: .*mean nothing/,
    mends: false,
  },
  {
    name: 'entry to another device',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0009_0000_0010n),
    says: /bytes 0 to 1048575: leads to device 9/,
    mends: false,
  },
  {
    name: 'entry behind the end',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0000_0fff_ffffn),
    says: /bytes 0 to 1048575: leads behind the end/,
    mends: false,
  },
  {
    name: 'entry to the superblocks',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0000_0000_0001n),
    says: /bytes 0 to 1048575: leads to the superblocks/,
    mends: false,
  },
  {
    name: 'entry to a group that is not ready',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0001_0000_0010n),
    says: /bytes 0 to 1048575: leads to a group that is not in use/,
    mends: false,
  },
  {
    name: 'entry to metadata',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0000_0000_0004n),
    says: /bytes 0 to 1048575: leads to a cluster of metadata/,
    mends: false,
  },
  {
    name: 'entry to the journal',
    harm: setEntry('vm1/root.vvd', 0, 0xffff_0000_0000_0006n),
    says: /bytes 0 to 1048575: leads to a cluster of metadata/,
    mends: false,
  },
  {
    name: 'one cluster of two files',
    harm: ({ devices, inodes }) => {
      const { view } = readBlock(devices, inodes['vm1/copy.vvd'] as number);
      const own = view.getBigUint64(INODE_AT.payload, true);
      edit(
        devices,
        treeBlocks({ devices, inodes }, inodes['vm1/sparse.raw'] as number)[1] as number,
        (leaf) => leaf.setBigUint64(TREE_AT.entries, own, true),
      );
    },
    says: /used once, and 2 entries lead to it: .*'vm1\/copy.vvd', bytes 0 to 1048575/,
    mends: false,
    leaves:
      /^cluster \d+: 1 MiB are counted as used, and no file has them \(not repaired: something leads elsewhere/,
  },
  {
    name: 'shared cluster that one file may write to',
    harm: ({ devices, inodes }) =>
      edit(devices, inodes['vm1/copy.vvd'] as number, (view) =>
        view.setUint8(INODE_AT.payload + 8 + 5, view.getUint8(INODE_AT.payload + 8 + 5) & 0x7f),
      ),
    says: /2 files have it, and one of them may write to it.*: '.*bytes 1048576 to .*; '/,
    mends: true,
  },
  {
    name: 'bucket, lost',
    harm: (volume) => ruin(volume.devices, bucket(volume)),
    says: /folder 'many': bucket 0 .*checksum.*names in it are lost/,
    mends: false,
  },
  {
    name: 'bucket with another pattern',
    harm: (volume) =>
      edit(volume.devices, bucket(volume), (view) => view.setUint32(DIRECTORY_AT.pattern, 1, true)),
    says: /folder 'many': bucket 0 .*is another one/,
    mends: false,
  },
  {
    name: 'bucket with other bits',
    harm: (volume) =>
      edit(volume.devices, bucket(volume), (view) => view.setUint32(DIRECTORY_AT.bits, 0, true)),
    says: /folder 'many'/,
    mends: false,
  },
  {
    name: 'bucket with another number of names',
    harm: (volume) =>
      edit(volume.devices, bucket(volume), (view) => view.setUint32(DIRECTORY_AT.entries, 1, true)),
    says: /folder 'many': a bucket .* claims 1 names/,
    mends: true,
  },
  {
    name: 'bucket with another number of bytes',
    harm: (volume) =>
      edit(volume.devices, bucket(volume), (view) => view.setUint32(DIRECTORY_AT.used, 30, true)),
    says: /folder 'many'.*cut short/,
    mends: false,
  },
  {
    name: 'hash of a name',
    harm: (volume) =>
      edit(volume.devices, bucket(volume), (view) =>
        view.setUint8(DIRECTORY_AT.payload + 8, view.getUint8(DIRECTORY_AT.payload + 8) ^ 1),
      ),
    says: /'many\/disk-\d+': the name has a wrong hash/,
    mends: false,
  },
  {
    name: 'kind of a name',
    harm: (volume) =>
      edit(volume.devices, bucket(volume), (view) => view.setUint8(DIRECTORY_AT.payload + 12, 5)),
    says: /'many\/disk-\d+': the name has the kind 5/,
    mends: false,
  },
  {
    name: 'name that leads to no inode',
    harm: (volume) =>
      edit(volume.devices, bucket(volume), (view) => setU64(view, DIRECTORY_AT.payload, 2 ** 45)),
    says: /'many\/disk-\d+': its inode .*no such block/,
    mends: false,
  },
  {
    name: 'folder in itself',
    harm: ({ devices, inodes }) =>
      edit(devices, inodes['vm1'] as number, (view) =>
        setU64(view, INODE_AT.payload, inodes['vm1'] as number),
      ),
    says: /another name as well/,
    mends: false,
  },
  {
    name: 'root folder, lost',
    harm: ({ devices }) => ruin(devices, ROOT),
    says: /the root folder: its inode.*checksum/,
    mends: false,
  },
  {
    name: 'folder of files without a name, lost',
    harm: ({ devices }) => ruin(devices, ORPHANS),
    says: /without a name.*checksum/,
    mends: false,
  },
  {
    name: 'block of a transaction that is yet to come',
    harm: ({ devices, inodes }) => {
      edit(devices, inodes['vm1/note'] as number, (view) => setU64(view, 32, 2 ** 50));
    },
    says: /'vm1\/note'.*yet to come/,
    mends: false,
  },
];

/** A block in the last metadata cluster. */
function lastBlock(devices: Sample['devices']): number {
  const { view } = readBlock(devices, GROUP + 1);
  let found = 0;
  for (let i = 0; i < 1096; i++) if (view.getUint16(HEADER + i * 2, true) === 0xffff) found = i;
  return (groupStart(0) + found) * BLOCKS_PER_CLUSTER + 1;
}
