/**
 * Units of a volume, and addresses in it.
 *
 * A block (4 KiB) holds metadata. A cluster (1 MiB) is what files are given. A piece (64 KiB) is the unit of which a
 * file knows whether it was ever written. Both kinds of address carry the number of the device in their high bits, so
 * that a device can grow without moving anything.
 *
 *     cluster address = device × 2^32 + cluster         block address = device × 2^40 + block
 */
export const BLOCK = 4096;
export const CLUSTER: number = 1024 * 1024;
export const BLOCKS_PER_CLUSTER: number = CLUSTER / BLOCK;
export const PIECE: number = 64 * 1024;
export const PIECES: number = CLUSTER / PIECE;
/** Every piece of a cluster written. */
export const ALL_PIECES = 0xffff;

/** Clusters at the start of each device that hold its superblock and the node area. */
export const SYSTEM_CLUSTERS = 4;
/** Reference counts in one block. */
export const COUNTS_PER_BLOCK = 2016;
export const COUNT_BLOCKS = 4;
/** Clusters of an allocation group: as many as four blocks count. The last one of a device may be shorter. */
export const GROUP_CLUSTERS: number = COUNTS_PER_BLOCK * COUNT_BLOCKS;
/** Blocks at the start of a group's first cluster that are always in use: its header and the counts. */
export const GROUP_BLOCKS: number = 1 + COUNT_BLOCKS;

export const DEVICES_MAX = 64;
export const SLOTS_MAX = 255;
export const DEVICE_CLUSTERS_MAX: number = 2 ** 32 - 1;
/** The smallest device that a volume is made on. */
export const DEVICE_CLUSTERS_MIN = 32;

const CLUSTER_STEP = 2 ** 32;
const BLOCK_STEP = 2 ** 40;

export function clusterAddress(device: number, cluster: number): number {
  return device * CLUSTER_STEP + cluster;
}

export function deviceOfCluster(address: number): number {
  return Math.floor(address / CLUSTER_STEP);
}

/** The cluster's number on its device. */
export function clusterOnDevice(address: number): number {
  return address % CLUSTER_STEP;
}

export function blockAddress(device: number, block: number): number {
  return device * BLOCK_STEP + block;
}

export function deviceOfBlock(address: number): number {
  return Math.floor(address / BLOCK_STEP);
}

export function blockOnDevice(address: number): number {
  return address % BLOCK_STEP;
}

/** The first block of a cluster. */
export function firstBlockOf(cluster: number): number {
  return blockAddress(deviceOfCluster(cluster), clusterOnDevice(cluster) * BLOCKS_PER_CLUSTER);
}

/** The cluster that a block lies in. */
export function clusterOfBlock(block: number): number {
  return clusterAddress(deviceOfBlock(block), Math.floor(blockOnDevice(block) / BLOCKS_PER_CLUSTER));
}

/** Byte offset of a cluster on its device. */
export function clusterOffset(address: number): number {
  return clusterOnDevice(address) * CLUSTER;
}

/** Groups of a device of so many clusters. A rest too small for a group's own blocks and a little data is left. */
export function groupsOfDevice(clusters: number): number {
  return Math.max(0, Math.ceil((clusters - SYSTEM_CLUSTERS - 1) / GROUP_CLUSTERS));
}

/** The first cluster of a group, on its device. */
export function groupStart(group: number): number {
  return SYSTEM_CLUSTERS + group * GROUP_CLUSTERS;
}

/** How many clusters a group has on a device of so many. */
export function groupLength(group: number, deviceClusters: number): number {
  return Math.min(GROUP_CLUSTERS, deviceClusters - groupStart(group));
}

/** The group that a cluster of a device is in. */
export function groupOf(cluster: number): number {
  return Math.floor((cluster - SYSTEM_CLUSTERS) / GROUP_CLUSTERS);
}

/** Clusters that backups of the superblock take: at 1, 4, 16, 64 and 256 GiB. */
export const BACKUP_CLUSTERS: readonly number[] = [1024, 4096, 16384, 65536, 262144];
