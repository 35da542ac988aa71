/**
 * Allocation table entries: 16 bytes a block, read on the data path with one `DataView`.
 *
 *     low   |pppppppp pppppppp pppppppp pppp kkkk|   p place, bits 4–31; k kind
 *     high  |00000000 000ppppp pppppppp pppppppp|   place, bits 32–52
 *     allocated, zero: one bit for each of the 32 sub-blocks (data), or length and CRC32C (compressed)
 *
 * A sub-block that is in neither map is not here: the layer behind has it. One that is in both is an error. A data
 * entry with a place and a zero bit reads as zero although space is taken (lazy provisioning, NO_HOLE).
 */
import { ENTRY, PAGE_HEADER } from './layout.ts';

export const KIND_UNALLOCATED = 0;
export const KIND_DATA = 1;
export const KIND_COMPRESSED = 2;
export const KIND_ZERO = 3;

const KIND_MASK = 0xf;
const PLACE_LOW_MASK = 0xffff_fff0;
const HIGH_LIMIT = 0x1f_ffff;
export const ALL_SUB_BLOCKS = 0xffff_ffff;
/** Alignment of compressed blocks: the low bits of a place hold the kind. */
export const COMPRESSED_ALIGNMENT = 16;

/** Byte offset of entry `slot` in its page. */
export function entryAt(slot: number): number {
  return PAGE_HEADER + slot * ENTRY;
}

export function kindOf(view: DataView, at: number): number {
  return view.getUint32(at, true) & KIND_MASK;
}

/** The place of a block, or −1 when it passes 2^53 − 1. */
export function placeOf(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  if (high > HIGH_LIMIT) return -1;
  return high * 0x1_0000_0000 + ((view.getUint32(at, true) & PLACE_LOW_MASK) >>> 0);
}

/** Data: sub-blocks stored here. Compressed: stored length. */
export function allocatedOf(view: DataView, at: number): number {
  return view.getUint32(at + 8, true);
}

/** Data: sub-blocks that read as zero. Compressed: CRC32C of the stored bytes. */
export function zeroOf(view: DataView, at: number): number {
  return view.getUint32(at + 12, true);
}

export function setEntry(
  view: DataView,
  at: number,
  kind: number,
  place: number,
  allocated: number,
  zero: number,
): void {
  view.setUint32(at, (((place >>> 0) & PLACE_LOW_MASK) | kind) >>> 0, true);
  view.setUint32(at + 4, Math.floor(place / 0x1_0000_0000), true);
  view.setUint32(at + 8, allocated, true);
  view.setUint32(at + 12, zero, true);
}

export function clearEntry(view: DataView, at: number): void {
  setEntry(view, at, KIND_UNALLOCATED, 0, 0, 0);
}

/** The bits of sub-blocks `first` to `last`, both included. */
export function subBlockMask(first: number, last: number): number {
  const upTo = last >= 31 ? ALL_SUB_BLOCKS : (1 << (last + 1)) - 1;
  return (upTo & ~((1 << first) - 1)) >>> 0;
}

/** How many bits from `first` on are equal to bit `first` of `map`; at least 1, up to bit 31. */
export function runLength(map: number, first: number): number {
  const shifted = map >>> first;
  const same = (shifted & 1) === 1 ? ~shifted : shifted;
  const run = same === 0 ? 32 : 31 - Math.clz32(same & -same);
  return Math.min(run, 32 - first);
}
