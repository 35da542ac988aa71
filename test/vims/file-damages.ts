import { setU64 } from '../../src/vims/block.ts';
import { DIRECTORY_AT, INODE_AT, TREE_AT } from '../../src/vims/layout.ts';
import { bucket, type Damage, field, ORPHANS, ROOT, setEntry } from './damage.ts';
import { edit, readBlock, ruin, treeBlocks } from './sample-volume.ts';

export const FILE_DAMAGES: readonly Damage[] = [
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
