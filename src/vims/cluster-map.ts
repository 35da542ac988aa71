/**
 * The entries of a file's table: the cluster of each MiB, and which of its sixteen pieces were written.
 *
 *     bits 0 … 39 cluster address    40 … 46 zero    47 shared    48 … 63 pieces written, the first one lowest
 *
 * A piece that was not written reads as zeroes, whatever the cluster holds. `shared` says that other files may have the
 * cluster too: whoever writes copies it first, unless its count says that it is the only one.
 */
import { CLUSTER, PIECE, PIECES } from './geometry.ts';

/** Where the low word of an entry keeps its part: the cluster's number on its device. */
const SHARED = 1 << 15;
const DEVICE_MASK = 0xff;
const STEP = 2 ** 32;

export function entryCluster(view: DataView, offset: number): number {
  return (view.getUint32(offset + 4, true) & DEVICE_MASK) * STEP + view.getUint32(offset, true);
}

export function entryWritten(view: DataView, offset: number): number {
  return view.getUint16(offset + 6, true);
}

export function entryShared(view: DataView, offset: number): boolean {
  return (view.getUint16(offset + 4, true) & SHARED) !== 0;
}

export function setEntry(
  view: DataView,
  offset: number,
  cluster: number,
  written: number,
  shared: boolean,
): void {
  view.setUint32(offset, cluster % STEP, true);
  view.setUint16(offset + 4, Math.floor(cluster / STEP) | (shared ? SHARED : 0), true);
  view.setUint16(offset + 6, written, true);
}

/** What is wrong with an entry that is not 0. */
export function entryProblem(view: DataView, offset: number): string | undefined {
  if (entryCluster(view, offset) === 0) return 'an entry has no cluster, and is not empty';
  if ((view.getUint16(offset + 4, true) & 0x7f00) !== 0) return 'an entry has bits set that mean nothing';
  return undefined;
}

/** The pieces that a range of a cluster touches. */
export function piecesTouched(inside: number, length: number): number {
  if (length === 0) return 0;
  const first = Math.floor(inside / PIECE);
  const last = Math.floor((inside + length - 1) / PIECE);
  return maskOf(first, last + 1);
}

/** The pieces that lie wholly inside a range of a cluster. */
export function piecesCovered(inside: number, length: number): number {
  const first = Math.ceil(inside / PIECE);
  const end = Math.floor((inside + length) / PIECE);
  return end > first ? maskOf(first, end) : 0;
}

function maskOf(first: number, end: number): number {
  return ((1 << end) - 1) & ~((1 << first) - 1);
}

/** From a place in a cluster on: whether it is written, and how many bytes it is the same. */
export function writtenRun(written: number, inside: number): { written: boolean; length: number } {
  const first = Math.floor(inside / PIECE);
  const state = (written >> first) & 1;
  let end = first + 1;
  while (end < PIECES && ((written >> end) & 1) === state) end++;
  return { written: state === 1, length: Math.min(end * PIECE, CLUSTER) - inside };
}
