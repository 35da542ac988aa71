/**
 * Zeroing a range of a file, whatever its size: pieces that are covered wholly become unwritten, which costs no data,
 * and clusters that nothing is written in go back to the volume.
 *
 * What lies behind the end of the file is nobody's: a range that reaches the end takes it along. Others may write there
 * at any time, so where the end is counts in the tick in which an entry changes: from then on they find it unwritten.
 */
import { makeEntryPlace } from './block-tree.ts';
import {
  entryCluster,
  entryShared,
  entryWritten,
  piecesCovered,
  piecesTouched,
  setEntry,
} from './cluster-map.ts';
import { entryBatches, freeEntries } from './free-entries.ts';
import { CLUSTER, PIECE } from './geometry.ts';
import type { OpenInode } from './open-inode.ts';
import { changeEntry, readMapped, writeParts } from './write-parts.ts';

/**
 * `free`: reads as zeroes, space is given back. `keep`: reads as zeroes, space stays or is taken. `discard`: what is not
 * in whole pieces stays as it is.
 */
export type ZeroMode = 'free' | 'keep' | 'discard';

/** A part of one cluster, in bytes of the file. */
interface Part {
  readonly index: number;
  readonly from: number;
  readonly end: number;
}

/** Makes a range read as zeroes, by who is under way already. @throws VimgError `NO_SPACE` (not with `discard`), `IO` */
export async function zeroRange(inode: OpenInode, from: number, end: number, mode: ZeroMode): Promise<void> {
  const wholeFirst = Math.ceil(from / CLUSTER);
  const wholeEnd = Math.floor(end / CLUSTER);
  if (wholeFirst > wholeEnd) {
    await zeroPart(inode, { index: wholeEnd, from, end }, mode);
    return;
  }
  await zeroPart(inode, { index: wholeFirst - 1, from, end: wholeFirst * CLUSTER }, mode);
  if (mode === 'keep') await keepWhole(inode, wholeFirst, wholeEnd);
  else await freeWhole(inode, wholeFirst, wholeEnd);
  await zeroPart(inode, { index: wholeEnd, from: wholeEnd * CLUSTER, end }, mode);
}

async function keepWhole(inode: OpenInode, first: number, end: number): Promise<void> {
  for (let index = first; index < end; index++) {
    await clearPieces(inode, { index, from: index * CLUSTER, end: (index + 1) * CLUSTER }, 'keep');
  }
}

async function freeWhole(inode: OpenInode, first: number, end: number): Promise<void> {
  const { core, block } = inode;
  for await (const batch of entryBatches(core, block, first, end)) {
    const leave = await inode.gate.enter(batch.first, batch.count);
    try {
      await core.metadata.change((operation) => freeEntries(core, operation, block, batch));
    } finally {
      leave();
    }
  }
}

async function zeroPart(inode: OpenInode, part: Part, mode: ZeroMode): Promise<void> {
  const { index, from, end } = part;
  if (from >= end) return;
  const { cluster } = await readMapped(inode, index);
  if (cluster === 0 && mode !== 'keep') return;
  await clearPieces(inode, part, mode);
  if (mode === 'discard') return;
  const firstWhole = Math.min(Math.ceil(from / PIECE) * PIECE, end);
  const lastWhole = Math.max(Math.floor(end / PIECE) * PIECE, firstWhole);
  await zeroEdge(inode, from, firstWhole);
  await zeroEdge(inode, lastWhole, end);
}

/** Writes zeroes where a piece that is covered in part was written. */
async function zeroEdge(inode: OpenInode, from: number, end: number): Promise<void> {
  if (from >= end) return;
  const { written } = await readMapped(inode, Math.floor(from / CLUSTER));
  if ((written & piecesTouched(from % CLUSTER, end - from)) === 0) return;
  await writeParts(inode, new Uint8Array(end - from), from);
}

/** Makes what of a part consists of whole pieces unwritten. */
async function clearPieces(inode: OpenInode, part: Part, mode: ZeroMode): Promise<void> {
  const leave = await inode.gate.enter(part.index);
  try {
    const { cluster, written } = await readMapped(inode, part.index);
    if (cluster === 0) {
      if (mode === 'keep') await takeUnwritten(inode, part.index);
      return;
    }
    if ((written & piecesOf(inode, part)) !== 0 || (written === 0 && mode !== 'keep')) {
      await clearEntry(inode, part, mode);
    }
  } finally {
    leave();
  }
}

/** Whole pieces of a part; with those behind it when the file ends in it, as it is now. */
function piecesOf(inode: OpenInode, { index, from, end }: Part): number {
  const inside = from - index * CLUSTER;
  const stop = end >= inode.issuedEnd ? (index + 1) * CLUSTER : end;
  return piecesCovered(inside, stop - from);
}

async function clearEntry(inode: OpenInode, part: Part, mode: ZeroMode): Promise<void> {
  const { core, block } = inode;
  await core.metadata.change(async (operation) => {
    const { block: leaf, offset } = await makeEntryPlace(operation, core.space, block, part.index);
    const written = entryWritten(leaf.view, offset) & ~piecesOf(inode, part);
    setEntry(leaf.view, offset, entryCluster(leaf.view, offset), written, entryShared(leaf.view, offset));
    if (written !== 0 || mode === 'keep') return;
    await freeEntries(core, operation, block, { first: part.index, count: 1 });
  });
}

async function takeUnwritten(inode: OpenInode, index: number): Promise<void> {
  const cluster = await inode.reserve(index);
  try {
    const none = { cluster: 0, written: 0, shared: false };
    await changeEntry(inode, index, none, { cluster, written: 0, shared: false });
  } catch (error) {
    inode.core.space.giveBack({ cluster, length: 1 });
    throw error;
  }
}

/** Gives back what lies behind the end of the file, in whole pieces. */
export async function freeBehind(inode: OpenInode, size: number): Promise<void> {
  const index = Math.floor(size / CLUSTER);
  await freeWhole(inode, Math.ceil(size / CLUSTER), Number.MAX_SAFE_INTEGER);
  const from = Math.ceil(size / PIECE) * PIECE;
  const end = (index + 1) * CLUSTER;
  if (from > index * CLUSTER && from < end) await zeroPart(inode, { index, from, end }, 'discard');
}
