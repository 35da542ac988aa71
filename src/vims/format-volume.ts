/**
 * Making a volume: everything that is in an empty one, and the superblocks last, so that a crash in between leaves no
 * volume. What it writes does not depend on the size of the devices.
 */
import { VimgError } from '../base/errors.ts';
import { type RandomBytes, systemRandom } from '../base/random.ts';
import { newUuid } from '../binary/uuid.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { Block, blockBytes, seal } from './block.ts';
import { DeviceSet } from './device-set.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  CLUSTER,
  clusterAddress,
  DEVICE_CLUSTERS_MAX,
  DEVICE_CLUSTERS_MIN,
  DEVICES_MAX,
  firstBlockOf,
  GROUP_BLOCKS,
  groupLength,
  groupStart,
  SYSTEM_CLUSTERS,
} from './geometry.ts';
import { setBit } from './group.ts';
import { groupBlocks } from './group-blocks.ts';
import { initInode } from './inode.ts';
import { Journal } from './journal.ts';
import { type BlockTypeName, GROUP_AT, HEADER, SLOT_STATES } from './layout.ts';
import { ownHost, writeSlot } from './slot.ts';
import { DEFAULT_SLOTS, type VolumeDescription, writeSuperblocks } from './superblock.ts';

export interface FormatOptions {
  readonly random?: RandomBytes;
}

/** Blocks of the first group that are in use from the start: its own, the root folder and the folder of orphans. */
const FIRST_INODES = 2;

/**
 * Makes a new, empty volume of devices; whatever they carried is lost. Durable when it resolves.
 *
 * @returns the volume's UUID
 * @throws VimgError `NO_SPACE` for a device that is too small, `LIMIT` for one too large or for too many
 */
export async function formatVolume(
  devices: readonly BlockDevice[],
  options: FormatOptions = {},
): Promise<string> {
  const { random = systemRandom } = options;
  const clusters = devices.map(usableClusters);
  if (devices.length === 0 || devices.length > DEVICES_MAX) {
    throw new VimgError('LIMIT', `A volume has 1 to ${DEVICES_MAX} devices, not ${devices.length}`);
  }
  const root = firstBlockOf(clusterAddress(0, groupStart(0))) + GROUP_BLOCKS;
  const volume: VolumeDescription = {
    uuid: newUuid(random),
    generation: 1,
    root,
    slots: DEFAULT_SLOTS,
    createdMs: Date.now(),
    devices: clusters.map((each) => ({ uuid: newUuid(random), clusters: each })),
    readOnlyCompatible: 0n,
  };
  const set = new DeviceSet(devices);
  for (const index of devices.keys()) await formatSystemArea(set, volume.uuid, index, index === 0 ? 1 : 0);
  await formatFirstGroup(set, volume);
  await set.flush();
  for (const [index, device] of [...devices.entries()].reverse())
    await writeSuperblocks(device, volume, index);
  return volume.uuid;
}

/** Clusters of a device that a volume can use. @throws VimgError `NO_SPACE`, `LIMIT` */
export function usableClusters(device: BlockDevice): number {
  const clusters = Math.floor(device.size / CLUSTER);
  if (clusters < DEVICE_CLUSTERS_MIN) {
    throw new VimgError('NO_SPACE', `A device of a volume has ${DEVICE_CLUSTERS_MIN} MiB at least`, {
      op: 'format',
      path: device.name,
      hint: 'take a larger device',
    });
  }
  if (clusters <= DEVICE_CLUSTERS_MAX) return clusters;
  throw new VimgError('LIMIT', 'The device is too large for a volume', { op: 'format', path: device.name });
}

/** Zeroes the system area of a device and writes what is in it, but not the superblocks. */
export async function formatSystemArea(
  devices: DeviceSet,
  volume: string,
  device: number,
  groupsReady: number,
): Promise<void> {
  const zeroes = new Uint8Array(CLUSTER);
  for (let i = 0; i < SYSTEM_CLUSTERS; i++) await devices.write(zeroes, clusterAddress(device, i), 0);
  const address = blockAddress(device, 1);
  const record = new Block(address, blockBytes('deviceRecord', volume, address));
  record.view.setUint32(HEADER, groupsReady, true);
  seal(record.bytes, 0);
  await devices.writeBlocks(record.bytes, address);
}

async function formatFirstGroup(devices: DeviceSet, volume: VolumeDescription): Promise<void> {
  const all = volume.devices.reduce((sum, { clusters }) => sum + clusters, 0);
  const length = groupLength(0, volume.devices[0]?.clusters ?? 0);
  const clusters = Journal.clustersFor(all, length);
  const journal = { cluster: clusterAddress(0, groupStart(0) + 1), clusters };
  const write = async (
    type: BlockTypeName,
    address: number,
    fill: (block: Block) => void,
    owner = 0,
  ): Promise<void> => {
    const block = new Block(address, blockBytes(type, volume.uuid, address, owner));
    fill(block);
    seal(block.bytes, 0);
    await devices.writeBlocks(block.bytes, address);
  };
  await devices.write(new Uint8Array(CLUSTER), clusterAddress(0, groupStart(0)), 0);
  await Journal.format(devices, volume.uuid, journal);
  const system = Array.from({ length: journal.clusters }, (_, i) => 1 + i);
  for (const { type, address, bytes } of groupBlocks(0, 0, length, system)) {
    if (type === 'group') takeFirstInodes(bytes);
    await write(type, address, (block) => block.bytes.set(bytes.subarray(HEADER), HEADER));
  }
  const orphans = volume.root + 1;
  for (const address of [volume.root, orphans]) {
    await write('inode', address, (block) => initInode(block, 'folder', address, 0), address);
  }
  await writeSlot(devices, volume.uuid, 0, {
    state: SLOT_STATES.detached,
    journalClusters: journal.clusters,
    journal: journal.cluster,
    orphans,
    attachedMs: 0,
    incarnation: 0,
    host: ownHost(),
  });
}

function takeFirstInodes(header: Uint8Array): void {
  for (let i = 0; i < FIRST_INODES; i++) setBit(header, GROUP_AT.bitmap, GROUP_BLOCKS + i, true);
  const view = new DataView(header.buffer);
  view.setUint32(GROUP_AT.freeBlocks, BLOCKS_PER_CLUSTER - GROUP_BLOCKS - FIRST_INODES, true);
}
