/**
 * The superblock: each device has one, in two places and in backups further out, all saying the same.
 *
 * The devices of a volume change by a new generation of it: first where a new device is, then on the first device. Who
 * opens the volume takes the newest that any of its devices has, so a crash in between leaves the old or the new.
 */
import { isVimgError, VimgError } from '../base/errors.ts';
import { isPromise } from '../base/maybe-promise.ts';
import { formatUuid } from '../binary/uuid.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { blockBytes, generationOf, seal, sealProblem } from './block.ts';
import {
  BACKUP_CLUSTERS,
  BLOCK,
  BLOCKS_PER_CLUSTER,
  blockAddress,
  CLUSTER,
  DEVICE_CLUSTERS_MAX,
  DEVICES_MAX,
  GROUP_CLUSTERS,
  SLOTS_MAX,
} from './geometry.ts';
import {
  AT,
  BLOCK_TYPES,
  type DeviceEntry,
  deviceEntryLayout,
  HEADER,
  type Superblock,
  superblockLayout,
} from './layout.ts';

/** What a superblock says, wherever it was read. */
export interface VolumeDescription {
  readonly uuid: string;
  readonly generation: number;
  readonly root: number;
  readonly slots: number;
  readonly createdMs: number;
  readonly devices: readonly { readonly uuid: string; readonly clusters: number }[];
  readonly readOnlyCompatible: bigint;
}

/** The same, with the device that it was read from. */
export interface FoundSuperblock extends VolumeDescription {
  readonly deviceIndex: number;
}

/** Defaults of the o2cb family: 2 s × (61 − 1) + … = 126 s on disk, 20 s on the network. */
const TIMERS = { heartbeatMs: 2000, deadThreshold: 61, idleMs: 20_000 };
export const DEFAULT_SLOTS = 64;

/** Blocks of a device that hold its superblock, the one written last first. */
export function superblockPlaces(clusters: number): number[] {
  return [
    0,
    2,
    ...BACKUP_CLUSTERS.filter((cluster) => cluster < clusters).map((cluster) => cluster * BLOCKS_PER_CLUSTER),
  ];
}

/** The bytes of one copy, sealed. */
function superblockBytes(volume: VolumeDescription, deviceIndex: number, block: number): Uint8Array {
  const bytes = blockBytes('superblock', volume.uuid, blockAddress(deviceIndex, block));
  const deviceTable = new Uint8Array(DEVICES_MAX * deviceEntryLayout.size);
  for (const [i, device] of volume.devices.entries()) {
    deviceEntryLayout.encode({ ...device, reserved: 0 }, deviceTable, i * deviceEntryLayout.size);
  }
  superblockLayout.encode(
    {
      incompatible: 0n,
      readOnlyCompatible: volume.readOnlyCompatible,
      compatible: 0n,
      blockSize: BLOCK,
      clusterSize: CLUSTER,
      groupClusters: GROUP_CLUSTERS,
      slots: volume.slots,
      devices: volume.devices.length,
      deviceIndex,
      reserved1: 0,
      ...TIMERS,
      root: volume.root,
      createdMs: volume.createdMs,
      reserved2: new Uint8Array(),
      deviceTable,
      reserved3: new Uint8Array(),
    },
    bytes,
    HEADER,
  );
  seal(bytes, volume.generation);
  return bytes;
}

/** Writes every copy that a device has: the second first, so that one of the first two is whole at every moment. */
export async function writeSuperblocks(
  device: BlockDevice,
  volume: VolumeDescription,
  deviceIndex: number,
): Promise<void> {
  const [first, ...others] = superblockPlaces(volume.devices[deviceIndex]?.clusters ?? 0);
  for (const block of [...others, first as number]) {
    await device.pwrite(superblockBytes(volume, deviceIndex, block), block * BLOCK);
    if (block === 2 || block === 0) await device.flush();
  }
}

/**
 * Ends a change of the superblocks that a crash cut off: devices with a copy that is older, or torn, get all of them
 * again.
 */
export async function completeSuperblocks(
  devices: readonly BlockDevice[],
  volume: VolumeDescription,
): Promise<void> {
  for (const [index, device] of devices.entries()) {
    let whole = true;
    for (const block of superblockPlaces(volume.devices[index]?.clusters ?? 0)) {
      const copy = await readCopy(device, block);
      whole &&= copy !== undefined && 'found' in copy && copy.found.generation === volume.generation;
    }
    if (!whole) await writeSuperblocks(device, volume, index);
  }
}

/** Whether a superblock could be there at all, and what it says. */
type Candidate = { readonly found: FoundSuperblock } | { readonly problem: string } | undefined;

/**
 * The newest superblock of a device; undefined for a device that carries no volume.
 *
 * @throws VimgError `CORRUPT` when there are only damaged ones; `UNSUPPORTED` for features this program does not know
 */
export async function readSuperblock(device: BlockDevice): Promise<FoundSuperblock | undefined> {
  let best: FoundSuperblock | undefined;
  let problem: string | undefined;
  const clusters = Math.floor(device.size / CLUSTER);
  for (const block of superblockPlaces(clusters)) {
    // backups are only asked when both copies in front are damaged, and one of them looked like a superblock
    if (block > 2 && (best !== undefined || problem === undefined)) break;
    const candidate = await readCopy(device, block);
    if (candidate === undefined) continue;
    if ('problem' in candidate) problem = candidate.problem;
    else if (best === undefined || candidate.found.generation > best.generation) best = candidate.found;
  }
  if (best === undefined && problem !== undefined) {
    throw new VimgError('CORRUPT', `The superblock is damaged: ${problem}`, { path: device.name });
  }
  return best;
}

async function readCopy(device: BlockDevice, block: number): Promise<Candidate> {
  if ((block + 1) * BLOCK > device.size) return undefined;
  const bytes = new Uint8Array(BLOCK);
  const reading = device.pread(bytes, block * BLOCK);
  if (isPromise(reading)) await reading;
  return decodeSuperblock(bytes, block, device.name);
}

/** What the bytes of one copy say. @throws VimgError `UNSUPPORTED` */
export function decodeSuperblock(bytes: Uint8Array, block: number, name: string): Candidate {
  if (Buffer.from(bytes.subarray(0, 4)).toString('latin1') !== 'VIMS') return undefined;
  const uuid = bytes.slice(AT.volume, AT.volume + 16);
  const sealed = sealProblem(bytes, uuid);
  if (sealed) return { problem: sealed };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint16(AT.type, true) !== BLOCK_TYPES.superblock) return { problem: 'it is another block' };
  if (!Number.isSafeInteger(generationOf(bytes))) return { problem: 'its generation is out of range' };
  if (view.getUint32(AT.address, true) !== block) return { problem: 'it belongs to another place' };
  try {
    return decodeFields(bytes, uuid, name);
  } catch (error) {
    if (isVimgError(error, 'INVALID_FORMAT')) return { problem: error.message };
    throw error;
  }
}

/** @throws VimgError `UNSUPPORTED`; `INVALID_FORMAT` for a number that is out of range */
function decodeFields(bytes: Uint8Array, uuid: Uint8Array, name: string): Candidate {
  const superblock = superblockLayout.decode(bytes, HEADER);
  if (superblock.incompatible !== 0n) {
    throw new VimgError(
      'UNSUPPORTED',
      `The volume has features that are not known: ${superblock.incompatible}`,
      {
        path: name,
        hint: 'use a newer vimg',
      },
    );
  }
  const problem = superblockProblem(superblock);
  if (problem) return { problem };
  const devices = Array.from(
    { length: superblock.devices },
    (_, i): DeviceEntry => deviceEntryLayout.decode(superblock.deviceTable, i * deviceEntryLayout.size),
  );
  if (devices.some(({ clusters }) => clusters > DEVICE_CLUSTERS_MAX))
    return { problem: 'a device is too large' };
  return {
    found: {
      uuid: formatUuid(uuid),
      generation: generationOf(bytes),
      root: superblock.root,
      slots: superblock.slots,
      createdMs: superblock.createdMs,
      devices,
      readOnlyCompatible: superblock.readOnlyCompatible,
      deviceIndex: superblock.deviceIndex,
    },
  };
}

function superblockProblem(superblock: Superblock): string | undefined {
  if (superblock.blockSize !== BLOCK || superblock.clusterSize !== CLUSTER)
    return 'its geometry is not known';
  if (superblock.groupClusters !== GROUP_CLUSTERS) return 'its geometry is not known';
  if (superblock.slots < 1 || superblock.slots > SLOTS_MAX) return `it claims ${superblock.slots} slots`;
  if (superblock.devices < 1 || superblock.devices > DEVICES_MAX)
    return `it claims ${superblock.devices} devices`;
  if (superblock.deviceIndex >= superblock.devices) return 'it is of a device that the volume does not have';
  return undefined;
}

/** What the newest superblock of all devices says, each of them at its place. @throws VimgError `NOT_FOUND`, `CORRUPT` */
export async function readVolume(devices: readonly BlockDevice[]): Promise<VolumeDescription> {
  let newest: FoundSuperblock | undefined;
  for (const [index, device] of devices.entries()) {
    const found = await readSuperblock(device);
    if (!found) throw new VimgError('NOT_FOUND', 'The device carries no volume', { path: device.name });
    if (found.deviceIndex !== index || (newest && found.uuid !== newest.uuid)) {
      throw new VimgError('NOT_FOUND', 'The device is another one of the volume, or of another volume', {
        path: device.name,
        hint: 'name the devices of one volume, in their order',
      });
    }
    if (!newest || found.generation > newest.generation) newest = found;
  }
  if (!newest) throw new VimgError('USAGE', 'A volume has one device at least');
  checkDevices(newest, devices);
  return newest;
}

function checkDevices(volume: VolumeDescription, devices: readonly BlockDevice[]): void {
  if (volume.devices.length !== devices.length) {
    throw new VimgError(
      'NOT_FOUND',
      `The volume has ${volume.devices.length} devices, not ${devices.length}`,
    );
  }
  for (const [index, { clusters }] of volume.devices.entries()) {
    const device = devices[index] as BlockDevice;
    if (clusters * CLUSTER <= device.size) continue;
    throw new VimgError('CORRUPT', `The device is smaller than the volume knows it: ${device.size} bytes`, {
      path: device.name,
      hint: 'it was cut, or it is another one',
    });
  }
}
