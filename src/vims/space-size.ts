/** How much space a volume has, and taking in more. */
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  clusterAddress,
  groupLength,
  groupStart,
  groupsOfDevice,
} from './geometry.ts';
import { backupsIn } from './group-blocks.ts';
import { COUNT_SYSTEM, GROUP_AT } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { Space } from './space.ts';

/** Clusters of all groups, and of them those that data can still be put into. */
export async function spaceTotals(
  metadata: Metadata,
  space: Space,
): Promise<{ clusters: number; free: number }> {
  let clusters = 0;
  let free = 0;
  for (const [device, count] of space.clusters.entries()) {
    for (let index = 0; index < groupsOfDevice(count); index++) {
      const length = groupLength(index, count);
      clusters += length;
      if (index < (space.ready[device] as number)) free += await freeOnDisk(metadata, device, index);
      else free += length - 1 - backupsIn(index, length).length;
    }
  }
  return { clusters, free: Math.max(0, free - space.kept) };
}

async function freeOnDisk(metadata: Metadata, device: number, index: number): Promise<number> {
  const address = blockAddress(device, groupStart(index) * BLOCKS_PER_CLUSTER);
  const header = await metadata.read('group', address);
  return header.view.getUint32(GROUP_AT.freeClusters, true);
}

/**
 * The last group of a device that is ready may have been cut short by the end of the device. When that lies further out
 * now, the group takes in what it can.
 *
 * @param clusters that the device has now
 */
export async function growLastGroup(
  metadata: Metadata,
  space: Space,
  device: number,
  clusters: number,
): Promise<void> {
  const index = (space.ready[device] ?? 0) - 1;
  if (index < 0) return;
  const group = await space.group(device, index);
  const length = groupLength(index, clusters);
  if (length <= group.length) return;
  const backups = backupsIn(index, length).filter((i) => i >= group.length);
  await metadata.change(async (operation) => {
    await group.setLength(operation, length);
    for (const i of backups) {
      const cluster = clusterAddress(device, groupStart(index) + i);
      await group.setCount(operation, cluster, COUNT_SYSTEM, -1);
    }
  });
  group.extend(length, backups);
}
