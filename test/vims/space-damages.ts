/** Damage to superblocks, slots, journal, groups and counts, most of it with right checksums. */
import { expect } from 'vitest';
import { setU64 } from '../../src/vims/block.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  clusterOfBlock,
  clusterOnDevice,
  groupStart,
} from '../../src/vims/geometry.ts';
import { GROUP_AT, HEADER } from '../../src/vims/layout.ts';
import { slotAddress } from '../../src/vims/slot.ts';
import { type Damage, GROUP, JOURNAL, lastBlock, setCount } from './damage.ts';
import { edit, ruin } from './sample-volume.ts';

export const SPACE_DAMAGES: readonly Damage[] = [
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
    name: 'superblock with a number that can be none',
    harm: ({ devices }) => edit(devices, 0, (view) => view.setBigUint64(HEADER + 56, 2n ** 60n, true)),
    says: /superblock in block 0 of device 0: .*out of range/,
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
];
