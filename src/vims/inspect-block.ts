/** What any block of a volume says: its fields by its layout, and the rest as a dump. It need not be a sound one. */

import { isVimgError, VimgError } from '../base/errors.ts';
import { hexdump } from '../binary/hexdump.ts';
import type { Layout } from '../binary/layout.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { sealProblem } from './block.ts';
import { DeviceSet } from './device-set.ts';
import { BLOCK, blockOnDevice, deviceOfBlock } from './geometry.ts';
import {
  AT,
  BLOCK_TYPES,
  blockHeaderLayout,
  deviceRecordLayout,
  directoryBlockLayout,
  groupLayout,
  HEADER,
  inodeLayout,
  journalDescriptorLayout,
  journalHeaderLayout,
  slotLayout,
  superblockLayout,
  treeBlockLayout,
} from './layout.ts';

export interface InspectedBlock {
  readonly address: number;
  /** What the block says that it is, or `unknown`. */
  readonly type: string;
  /** `ok`, or what is wrong with it whatever it is meant to be. */
  readonly state: string;
  /** By name; bytes in hexadecimal, and so all fields of a structure that has a number past 2^53 − 1. */
  readonly fields: Readonly<Record<string, string | number>>;
  /** What follows the fields. */
  readonly dump: string;
}

const LAYOUTS: Readonly<Record<number, Layout<object>>> = {
  [BLOCK_TYPES.superblock]: superblockLayout,
  [BLOCK_TYPES.deviceRecord]: deviceRecordLayout,
  [BLOCK_TYPES.slot]: slotLayout,
  [BLOCK_TYPES.group]: groupLayout,
  [BLOCK_TYPES.inode]: inodeLayout,
  [BLOCK_TYPES.tree]: treeBlockLayout,
  [BLOCK_TYPES.directory]: directoryBlockLayout,
  [BLOCK_TYPES.journalHeader]: journalHeaderLayout,
  [BLOCK_TYPES.journalDescriptor]: journalDescriptorLayout,
};

/**
 * Looks at one block, as it is on the devices: a journal that is yet to be replayed is not looked at.
 *
 * @param address device × 2^40 + block on that device
 * @throws VimgError `USAGE` when there is no such block; `IO`
 */
export async function inspectBlock(
  devices: readonly BlockDevice[],
  address: number,
): Promise<InspectedBlock> {
  const device = Number.isSafeInteger(address) && address >= 0 ? devices[deviceOfBlock(address)] : undefined;
  if (!device || (blockOnDevice(address) + 1) * BLOCK > device.size) {
    throw new VimgError('USAGE', `There is no block ${address} on the devices`, { op: 'inspect' });
  }
  const bytes = new Uint8Array(BLOCK);
  await new DeviceSet(devices).readBlock(bytes, address);
  const number = new DataView(bytes.buffer).getUint16(AT.type, true);
  const isBlock = sealProblem(bytes, bytes.slice(AT.volume, AT.volume + 16)) !== 'it is no metadata block';
  const type = isBlock ? Object.entries(BLOCK_TYPES).find(([, each]) => each === number)?.[0] : undefined;
  const layout = type === undefined ? undefined : LAYOUTS[number];
  const end = isBlock ? HEADER + (layout?.size ?? 0) : 0;
  return {
    address,
    type: type ?? 'unknown',
    state: sealProblem(bytes, bytes.slice(AT.volume, AT.volume + 16)) ?? 'ok',
    fields: {
      ...(isBlock ? fieldsOf(blockHeaderLayout, bytes, 0) : {}),
      ...(layout ? fieldsOf(layout, bytes, HEADER) : {}),
    },
    dump: hexdump(bytes.subarray(end), blockOnDevice(address) * BLOCK + end),
  };
}

function fieldsOf(
  layout: Layout<object>,
  bytes: Uint8Array,
  offset: number,
): Record<string, string | number> {
  const fields: Record<string, string | number> = {};
  for (const { field, offset: at, size } of layout.rows) {
    const stored = bytes.subarray(offset + at, offset + at + size);
    fields[field] = shownValue(layout, field, bytes, offset) ?? Buffer.from(stored).toString('hex');
  }
  return fields;
}

/** Undefined for what is shown as bytes. */
function shownValue(
  layout: Layout<object>,
  field: string,
  bytes: Uint8Array,
  offset: number,
): string | number | undefined {
  let decoded: Record<string, unknown>;
  try {
    decoded = layout.decode(bytes, offset) as Record<string, unknown>;
  } catch (error) {
    if (isVimgError(error, 'INVALID_FORMAT')) return undefined; // a number past 2^53 − 1
    throw error;
  }
  const value = decoded[field];
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'string') return value.replace(/\0+$/, '');
  return typeof value === 'number' ? value : undefined;
}
