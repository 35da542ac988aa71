/** A node's slot: where its journal is, and whether it left in order. All that changes is in the block's first sector. */
import { hostname } from 'node:os';
import { blockBytes, blockProblem, damaged, generationOf, seal, uuidBytes } from './block.ts';
import type { DeviceSet } from './device-set.ts';
import { BLOCK, blockAddress } from './geometry.ts';
import { HEADER, type Slot, slotLayout } from './layout.ts';

/** Blocks in front of the node area, and blocks of each slot in it. */
const NODE_AREA = 4;
const SLOT_BLOCKS = 4;
/** Which of a slot's blocks is the slot itself: behind heartbeat, eviction and ballot. */
const SLOT_BLOCK = 3;

export function slotAddress(slot: number): number {
  return blockAddress(0, NODE_AREA + slot * SLOT_BLOCKS + SLOT_BLOCK);
}

/** @throws VimgError `CORRUPT` */
export async function readSlot(devices: DeviceSet, volume: string, slot: number): Promise<Slot> {
  const bytes = new Uint8Array(BLOCK);
  const address = slotAddress(slot);
  await devices.readBlock(bytes, address);
  const problem = blockProblem(bytes, { type: 'slot', volume: uuidBytes(volume), address });
  if (problem) throw damaged('The slot', address, problem);
  const found = slotLayout.decode(bytes, HEADER);
  return {
    ...found,
    host: found.host.replace(/\0+$/, ''),
    incarnation: Math.max(found.incarnation, generationOf(bytes)),
  };
}

/** Writes a slot and flushes. */
export async function writeSlot(
  devices: DeviceSet,
  volume: string,
  slot: number,
  content: Slot,
): Promise<void> {
  const bytes = blockBytes('slot', volume, slotAddress(slot));
  slotLayout.encode(content, bytes, HEADER);
  seal(bytes, content.incarnation);
  await devices.writeBlocks(bytes, slotAddress(slot));
  await devices.flush();
}

export function ownHost(): string {
  return hostname().slice(0, 63);
}
