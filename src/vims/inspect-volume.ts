/**
 * What one device of a volume says of itself: its superblocks, its record, slot 0 and the journal, its groups. Nothing is
 * written, nothing is replayed, and nothing need be sound: what cannot be told is left out, what is wrong is told.
 */
import { isVimgError, VimgError } from '../base/errors.ts';
import { isPromise } from '../base/maybe-promise.ts';
import { formatUuid } from '../binary/uuid.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { getU64, sealProblem } from './block.ts';
import {
  BLOCK,
  BLOCKS_PER_CLUSTER,
  blockAddress,
  blockOnDevice,
  CLUSTER,
  DEVICES_MAX,
  deviceOfBlock,
  firstBlockOf,
  groupStart,
  groupsOfDevice,
} from './geometry.ts';
import { type InspectedBlock, inspectBlock } from './inspect-block.ts';
import { AT, type BlockTypeName } from './layout.ts';
import { slotAddress } from './slot.ts';
import { readSuperblock, superblockPlaces } from './superblock.ts';

/** One block, as `vimg inspect` shows structures. */
export interface InspectedVolumeBlock {
  readonly name: string;
  /** Of the block on its device, and its length, in bytes. */
  readonly offset: number;
  readonly length: number;
  readonly state: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Which device of which volume it is, as far as that can be told. */
interface Place {
  readonly index: number;
  readonly volume: string | undefined;
  /** Clusters of the device that the volume uses, as far as is known. */
  readonly clusters: number;
}

/** Fields of the block header that say nothing where the block is what is expected; the checksum is in the state. */
const IN_EVERY_BLOCK = new Set(['magic', 'type', 'version', 'address', 'owner', 'writer', 'epoch', 'crc']);
const DEVICE_RECORD = 1;

/** Whether one of the first blocks of a device looks like those of a volume, sound or not. @throws VimgError `IO` */
export async function looksLikeVolume(device: BlockDevice): Promise<boolean> {
  for (const block of [0, DEVICE_RECORD, 2]) {
    const bytes = await readAt(device, block);
    if (bytes && headerSays(bytes, block)) return true;
  }
  return false;
}

/** Whether it has the magic, and says that it belongs to this block of some device. */
function headerSays(bytes: Uint8Array, block: number): boolean {
  if (Buffer.from(bytes.subarray(0, 4)).toString('latin1') !== 'VIMS') return false;
  const address = getU64(new DataView(bytes.buffer), AT.address);
  return blockOnDevice(address) === block && deviceOfBlock(address) < DEVICES_MAX;
}

/** Undefined where the device ends before, or cannot be read: then that is told of the block by itself. */
async function readAt(device: BlockDevice, block: number): Promise<Uint8Array | undefined> {
  if ((block + 1) * BLOCK > device.size) return undefined;
  const bytes = new Uint8Array(BLOCK);
  try {
    const reading = device.pread(bytes, block * BLOCK);
    if (isPromise(reading)) await reading;
  } catch (error) {
    if (isVimgError(error, 'IO')) return undefined;
    throw error;
  }
  return bytes;
}

/** Everything that one device says of itself, in short; on the first device also slot 0 and its journal. */
export async function* inspectVolume(device: BlockDevice): AsyncGenerator<InspectedVolumeBlock> {
  const place = await placeOf(device);
  const look = async (name: string, type: BlockTypeName, block: number): Promise<Found> => {
    const found = await inspectBlock(devicesOf(device, place), blockAddress(place.index, block), {
      type,
      volume: place.volume,
    });
    return { found, shown: { ...shownOf(found), name, fields: inShort(found) } };
  };
  for (const block of superblockPlaces(place.clusters)) {
    if ((block + 1) * BLOCK > device.size) continue;
    yield (await look(`superblock of device ${place.index}`, 'superblock', block)).shown;
  }
  if (device.size < 2 * BLOCK) return;
  const record = await look(`device record of device ${place.index}`, 'deviceRecord', DEVICE_RECORD);
  yield record.shown;
  if (place.index === 0 && hasBlock(device, slotAddress(0))) {
    const slot = await look('slot 0', 'slot', slotAddress(0));
    yield slot.shown;
    const { journal } = slot.found.fields;
    if (typeof journal === 'number' && journal > 0 && hasBlock(device, firstBlockOf(journal))) {
      yield (await look('journal of slot 0', 'journalHeader', firstBlockOf(journal))).shown;
    }
  }
  yield* groups(device, place, record.found, look);
}

interface Found {
  readonly found: InspectedBlock;
  readonly shown: InspectedVolumeBlock;
}

/** As many as the record of the device says; when that is damaged, as many as look like groups. */
async function* groups(
  device: BlockDevice,
  { index, clusters }: Place,
  record: InspectedBlock,
  look: (name: string, type: BlockTypeName, block: number) => Promise<Found>,
): AsyncGenerator<InspectedVolumeBlock> {
  const { groupsReady } = record.fields;
  const isTold = record.state === 'ok' && typeof groupsReady === 'number';
  const count = Math.min(groupsOfDevice(clusters), isTold ? groupsReady : Number.POSITIVE_INFINITY);
  for (let group = 0; group < count; group++) {
    const block = groupStart(group) * BLOCKS_PER_CLUSTER;
    if ((block + 1) * BLOCK > device.size) return;
    const { found, shown } = await look(`group ${group} of device ${index}`, 'group', block);
    if (!isTold && found.type === 'unknown') return;
    yield shown;
  }
}

/**
 * One block with all its fields, and the bytes behind them.
 *
 * @param address device × 2^40 + block
 * @throws VimgError `USAGE` when there is no such block on the device
 */
export async function inspectVolumeBlock(
  device: BlockDevice,
  address: number,
): Promise<InspectedVolumeBlock & { readonly rest: Uint8Array }> {
  const place = await placeOf(device);
  if (Number.isSafeInteger(address) && address >= 0 && deviceOfBlock(address) !== place.index) {
    throw new VimgError('USAGE', `Block ${address} is on device ${deviceOfBlock(address)} of the volume`, {
      op: 'inspect',
      path: device.name,
      hint: `this is device ${place.index}`,
    });
  }
  const found = await inspectBlock(devicesOf(device, place), address);
  return { ...shownOf(found), rest: found.rest };
}

function hasBlock(device: BlockDevice, address: number): boolean {
  return deviceOfBlock(address) === 0 && (address + 1) * BLOCK <= device.size;
}

function devicesOf(device: BlockDevice, { index }: Place): (BlockDevice | undefined)[] {
  const devices: (BlockDevice | undefined)[] = [];
  devices[index] = device;
  return devices;
}

function shownOf({ type, address, state, fields }: InspectedBlock): InspectedVolumeBlock {
  const name = type === 'unknown' ? `block ${address}` : `block ${address}, ${type}`;
  return { name, offset: blockOnDevice(address) * BLOCK, length: BLOCK, state, fields };
}

function inShort({ fields }: InspectedBlock): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(([name]) => !IN_EVERY_BLOCK.has(name) && !name.startsWith('reserved')),
  );
}

/** By its superblock; when that is damaged, by whatever block in front or backup is whole. */
async function placeOf(device: BlockDevice): Promise<Place> {
  const here = Math.floor(device.size / CLUSTER);
  try {
    const found = await readSuperblock(device);
    if (found) {
      const clusters = Math.min(here, found.devices[found.deviceIndex]?.clusters ?? here);
      return { index: found.deviceIndex, volume: found.uuid, clusters };
    }
  } catch (error) {
    if (!isVimgError(error)) throw error; // what is wrong is told of each copy
  }
  for (const block of [DEVICE_RECORD, ...superblockPlaces(here)]) {
    const bytes = await readAt(device, block);
    if (!bytes || !headerSays(bytes, block)) continue;
    const volume = bytes.slice(AT.volume, AT.volume + 16);
    if (sealProblem(bytes, volume) !== undefined) continue;
    const index = deviceOfBlock(getU64(new DataView(bytes.buffer), AT.address));
    return { index, volume: formatUuid(volume), clusters: here };
  }
  return { index: 0, volume: undefined, clusters: here };
}
