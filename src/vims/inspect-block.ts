/** What any block of a volume says: its fields by its layout, and the rest as bytes. It need not be a sound one. */

import { isVimgError, VimgError } from '../base/errors.ts';
import type { Layout } from '../binary/layout.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { blockProblem, getU64, sealProblem, uuidBytes } from './block.ts';
import { BLOCK, blockOnDevice, DEVICES_MAX, deviceOfBlock } from './geometry.ts';
import {
  AT,
  BLOCK_TYPES,
  type BlockTypeName,
  blockHeaderLayout,
  deviceEntryLayout,
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
  /** `ok`, or what is wrong with it: as what was expected there, else whatever it is meant to be. */
  readonly state: string;
  /**
   * By name. 64 bits that are no length or address are text, in decimal; bytes are bytes, and so are all fields of a structure that has a number past 2^53 − 1; the table of
   * devices is what its entries say.
   */
  readonly fields: Readonly<Record<string, unknown>>;
  /** What follows the fields. */
  readonly rest: Uint8Array;
}

/** What is known of a place before one looks. */
export interface ExpectedBlock {
  readonly type: BlockTypeName;
  /** The volume's UUID; without it, whatever the block says is right. */
  readonly volume?: string | undefined;
}

/** What `sealProblem` says of what has no magic. */
const NO_BLOCK = 'it is no metadata block';

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
 * @param devices by their index in the volume; some may be missing
 * @param address device × 2^40 + block on that device
 * @throws VimgError `USAGE` when there is no such block. One that cannot be read is told by its state
 */
export async function inspectBlock(
  devices: readonly (BlockDevice | undefined)[],
  address: number,
  expected?: ExpectedBlock,
): Promise<InspectedBlock> {
  const device = Number.isSafeInteger(address) && address >= 0 ? devices[deviceOfBlock(address)] : undefined;
  if (!device || (blockOnDevice(address) + 1) * BLOCK > device.size) {
    throw new VimgError('USAGE', `There is no block ${address} on the devices`, { op: 'inspect' });
  }
  const bytes = new Uint8Array(BLOCK);
  try {
    await device.pread(bytes, blockOnDevice(address) * BLOCK);
  } catch (error) {
    if (!isVimgError(error, 'IO')) throw error;
    const state = `it cannot be read: ${error.message}`;
    return { address, type: 'unknown', state, fields: {}, rest: new Uint8Array() };
  }
  return describeBlock(bytes, address, expected);
}

function describeBlock(
  bytes: Uint8Array,
  address: number,
  expected: ExpectedBlock | undefined,
): InspectedBlock {
  const view = new DataView(bytes.buffer);
  const number = view.getUint16(AT.type, true);
  const volume = expected?.volume === undefined ? volumeIn(bytes) : uuidBytes(expected.volume);
  const problem = expected
    ? blockProblem(bytes, { type: expected.type, volume, address })
    : problemAnywhere(bytes, view, address);
  const isBlock = sealProblem(bytes, volumeIn(bytes)) !== NO_BLOCK;
  const type = isBlock ? Object.entries(BLOCK_TYPES).find(([, each]) => each === number)?.[0] : undefined;
  const layout = type === undefined ? undefined : LAYOUTS[number];
  return {
    address,
    type: type ?? 'unknown',
    state: problem ?? 'ok',
    fields: {
      ...(isBlock ? fieldsOf(blockHeaderLayout, bytes, 0) : {}),
      ...(layout ? fieldsOf(layout, bytes, HEADER) : {}),
      ...(layout === superblockLayout ? { deviceTable: deviceTableOf(bytes) } : {}),
    },
    rest: bytes.subarray(isBlock ? HEADER + (layout?.size ?? 0) : 0),
  };
}

/** What is wrong with a block of which nothing is known but where it is. */
function problemAnywhere(bytes: Uint8Array, view: DataView, address: number): string | undefined {
  const sealed = sealProblem(bytes, volumeIn(bytes));
  const own = getU64(view, AT.address);
  if (sealed !== undefined || own === address) return sealed;
  return `it belongs to block ${own}: here it is an image in a journal, or in the wrong place`;
}

function volumeIn(bytes: Uint8Array): Uint8Array {
  return bytes.slice(AT.volume, AT.volume + 16);
}

/** Entries that are in use, by their place in the table. */
function deviceTableOf(bytes: Uint8Array): Record<string, unknown>[] {
  const start = HEADER + (superblockLayout.rows.find(({ field }) => field === 'deviceTable')?.offset ?? 0);
  const table: Record<string, unknown>[] = [];
  for (let i = 0; i < DEVICES_MAX; i++) {
    const at = start + i * deviceEntryLayout.size;
    if (bytes.subarray(at, at + deviceEntryLayout.size).every((byte) => byte === 0)) continue;
    table.push({ device: i, ...fieldsOf(deviceEntryLayout, bytes, at) });
  }
  return table;
}

function fieldsOf(layout: Layout<object>, bytes: Uint8Array, offset: number): Record<string, unknown> {
  let decoded: Record<string, unknown> = {};
  try {
    decoded = layout.decode(bytes, offset) as Record<string, unknown>;
  } catch (error) {
    // a number past 2^53 − 1: all are shown as bytes
    if (!isVimgError(error, 'INVALID_FORMAT')) throw error;
  }
  const fields: Record<string, unknown> = {};
  for (const { field, offset: at, size } of layout.rows) {
    const value = decoded[field] ?? bytes.slice(offset + at, offset + at + size);
    // of a number past 2^53 JSON would lose digits
    const isText = typeof value === 'string' || typeof value === 'bigint';
    fields[field] = isText ? String(value).replace(/\0+$/, '') : value;
  }
  return fields;
}
