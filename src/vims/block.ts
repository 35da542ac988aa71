/** Metadata blocks: each says what it is, whose, where it belongs and from when, under one checksum. */
import { VimgError } from '../base/errors.ts';
import { crc32cBulk } from '../binary/crc32c.ts';
import { parseUuid } from '../binary/uuid.ts';
import { BLOCK } from './geometry.ts';
import { AT, BLOCK_TYPES, type BlockTypeName, blockHeaderLayout, MAGIC, VERSION } from './layout.ts';

const MAGIC_WORD = Buffer.from(MAGIC, 'latin1').readUInt32LE(0);
const TYPE_NAMES = new Map<number, string>(Object.entries(BLOCK_TYPES).map(([name, type]) => [type, name]));

/** A block in memory. Its bytes are sealed only when they are about to be written. */
export class Block {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** While above 0 it stays in memory. */
  pins = 0;
  /** Changed since the last commit. */
  dirty = false;
  /** Looked at since the last sweep. */
  used = true;
  /** Read from a device, and not yet found to be what was asked for. */
  unchecked = false;

  constructor(address: number, bytes: Uint8Array) {
    this.address = address;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get type(): number {
    return this.view.getUint16(AT.type, true);
  }

  get owner(): number {
    return getU64(this.view, AT.owner);
  }
}

/** What a block must be to be the one meant. */
export interface BlockExpectation {
  readonly type: BlockTypeName;
  readonly volume: Uint8Array;
  readonly address: number;
  /** Whose it must be; not looked at when it is not given. */
  readonly owner?: number;
}

export function blockBytes(type: BlockTypeName, volume: string, address: number, owner = 0): Uint8Array {
  const block = new Uint8Array(BLOCK);
  blockHeaderLayout.encode(
    {
      magic: MAGIC,
      type: BLOCK_TYPES[type],
      version: VERSION,
      volume,
      address,
      generation: 0,
      owner,
      writer: 0,
      reserved1: 0,
      epoch: 0,
      reserved2: 0,
      crc: 0,
    },
    block,
  );
  return block;
}

/** Stamps a block with its transaction and its checksum: from now on it may be written. */
export function seal(bytes: Uint8Array, generation: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  setU64(view, AT.generation, generation);
  view.setUint32(AT.crc, 0, true);
  view.setUint32(AT.crc, crc32cBulk(bytes), true);
}

/** What is wrong with a block, or undefined when it is exactly the one expected. */
export function blockProblem(bytes: Uint8Array, expected: BlockExpectation): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const sealed = sealProblem(bytes, expected.volume);
  if (sealed) return sealed;
  const type = view.getUint16(AT.type, true);
  if (type !== BLOCK_TYPES[expected.type]) {
    return `it is a block of type ${TYPE_NAMES.get(type) ?? type}, not ${expected.type}`;
  }
  if (getU64(view, AT.address) !== expected.address) return 'it belongs to another place';
  if (expected.owner !== undefined && getU64(view, AT.owner) !== expected.owner) {
    return 'it belongs to another file';
  }
  return undefined;
}

/** What is wrong with a block of whatever type and place. */
export function sealProblem(bytes: Uint8Array, volume: Uint8Array): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC_WORD) return 'it is no metadata block';
  if (!checksumMatches(bytes, view)) return 'its checksum does not match';
  if (view.getUint16(AT.version, true) !== VERSION) return 'its version is not known';
  if (Buffer.compare(bytes.subarray(AT.volume, AT.volume + 16), volume) !== 0) {
    return 'it belongs to another volume';
  }
  return undefined;
}

function checksumMatches(bytes: Uint8Array, view: DataView): boolean {
  const stored = view.getUint32(AT.crc, true);
  view.setUint32(AT.crc, 0, true);
  const computed = crc32cBulk(bytes);
  view.setUint32(AT.crc, stored, true);
  return computed === stored;
}

export function generationOf(bytes: Uint8Array): number {
  return getU64(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), AT.generation);
}

/** The UUID as the bytes that blocks carry. */
export function uuidBytes(uuid: string): Uint8Array {
  return parseUuid(uuid);
}

/** An unsigned 64-bit number; past 2^53 − 1 it is not exact, and then equals nothing that is expected. */
export function getU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true);
}

export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** A volume's metadata is not what it must be. */
export function damaged(what: string, address: number, problem: string): VimgError {
  return new VimgError('CORRUPT', `${what} is damaged: ${problem}`, {
    op: `read block ${address}`,
    hint: '`vimg datastore check NAME` shows what it touches',
  });
}
