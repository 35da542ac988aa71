/**
 * Zeroing, discarding and cutting a file: pieces that are covered wholly become unwritten, which costs no data, and
 * clusters that nothing is written in go back to the volume.
 */
import { piecesCovered, piecesTouched } from './cluster-map.ts';
import { entryBatches, freeEntries } from './free-entries.ts';
import { CLUSTER, PIECE } from './geometry.ts';
import type { OpenInode } from './open-inode.ts';
import { changeEntry, leaveInode, readMapped, tailBefore, writeParts, zeroTail } from './write-content.ts';

/**
 * `free`: reads as zeroes, space is given back. `keep`: reads as zeroes, space stays or is taken. `discard`: what is not
 * in whole pieces stays as it is.
 */
export type ZeroMode = 'free' | 'keep' | 'discard';

/** Makes a range of the file read as zeroes. @throws VimgError `NO_SPACE` (with `keep`, and where it is shared), `IO` */
export function zeroContent(inode: OpenInode, offset: number, length: number, mode: ZeroMode): Promise<void> {
  return whenFree(inode, offset, length, () => zeroNow(inode, offset, length, mode));
}

/** Counts as under way only what need not wait for a copy: that waits for what is under way. */
async function whenFree(
  inode: OpenInode,
  offset: number,
  length: number,
  work: () => Promise<void>,
): Promise<void> {
  for (;;) {
    const before = inode.frozen ?? tailBefore(inode, offset, length);
    if (before === undefined) break;
    await before;
  }
  await inode.writes.track(work());
}

async function zeroNow(inode: OpenInode, offset: number, length: number, mode: ZeroMode): Promise<void> {
  if (inode.inline) await leaveInode(inode);
  const end = offset + length;
  if (end > inode.issuedEnd) await growTo(inode, end);
  // what lies behind the end of the file is nobody's
  const stop = end >= inode.size ? Math.ceil(end / CLUSTER) * CLUSTER : end;
  const wholeFirst = Math.ceil(offset / CLUSTER);
  const wholeEnd = Math.floor(stop / CLUSTER);
  if (wholeFirst > wholeEnd) {
    await zeroPart(inode, offset, Math.min(stop, wholeFirst * CLUSTER), mode);
  } else {
    await zeroPart(inode, offset, wholeFirst * CLUSTER, mode);
    await zeroWhole(inode, wholeFirst, wholeEnd, mode);
    await zeroPart(inode, wholeEnd * CLUSTER, stop, mode);
  }
  inode.changed(mode === 'discard' ? 0 : end);
}

async function growTo(inode: OpenInode, end: number): Promise<void> {
  await zeroTail(inode, end);
  inode.issuedEnd = Math.max(inode.issuedEnd, end);
  inode.changed(end);
}

/** Zeroes a part of one cluster. */
async function zeroPart(inode: OpenInode, from: number, to: number, mode: ZeroMode): Promise<void> {
  if (from >= to) return;
  const index = Math.floor(from / CLUSTER);
  const inside = from % CLUSTER;
  const { cluster } = await readMapped(inode, index);
  if (cluster === 0 && mode !== 'keep') return;
  await clearPieces(inode, index, piecesCovered(inside, to - from), mode);
  if (mode === 'discard') return;
  const firstWhole = Math.min(Math.ceil(from / PIECE) * PIECE, to);
  const lastWhole = Math.max(Math.floor(to / PIECE) * PIECE, firstWhole);
  await zeroEdge(inode, from, firstWhole);
  await zeroEdge(inode, lastWhole, to);
}

/** Writes zeroes where a piece that is covered in part was written. */
async function zeroEdge(inode: OpenInode, from: number, end: number): Promise<void> {
  const to = Math.min(end, inode.size);
  if (from >= to) return;
  const { written } = await readMapped(inode, Math.floor(from / CLUSTER));
  if ((written & piecesTouched(from % CLUSTER, to - from)) === 0) return;
  await writeParts(inode, new Uint8Array(to - from), from);
}

async function clearPieces(inode: OpenInode, index: number, pieces: number, mode: ZeroMode): Promise<void> {
  const leave = await inode.gate.enter(index);
  try {
    const before = await readMapped(inode, index);
    if (before.cluster === 0) {
      if (mode === 'keep') await takeUnwritten(inode, index);
      return;
    }
    const written = before.written & ~pieces;
    if (written === before.written) return;
    if (written === 0 && mode !== 'keep') await freeRange(inode, index, 1);
    else await changeEntry(inode, index, before, { ...before, written });
  } finally {
    leave();
  }
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

async function freeRange(inode: OpenInode, first: number, count: number): Promise<void> {
  const { core, block } = inode;
  await core.metadata.change((operation) => freeEntries(core, operation, block, { first, count }));
}

async function zeroWhole(inode: OpenInode, first: number, end: number, mode: ZeroMode): Promise<void> {
  if (mode === 'keep') {
    for (let index = first; index < end; index++) await clearPieces(inode, index, 0xffff, mode);
    return;
  }
  for await (const batch of entryBatches(inode.core, inode.block, first, end)) {
    const leave = await inode.gate.enter(batch.first, batch.count);
    try {
      await freeRange(inode, batch.first, batch.count);
    } finally {
      leave();
    }
  }
}

/** Sets the size. What is cut off goes back to the volume before the file is shorter; what is new reads as zeroes. */
export function resizeContent(inode: OpenInode, size: number): Promise<void> {
  return whenFree(inode, 0, Number.MAX_SAFE_INTEGER, () => resizeNow(inode, size));
}

async function resizeNow(inode: OpenInode, size: number): Promise<void> {
  if (inode.inline) await leaveInode(inode);
  if (size > inode.size) {
    await growTo(inode, size);
    return;
  }
  await zeroWhole(inode, Math.ceil(size / CLUSTER), Number.MAX_SAFE_INTEGER, 'free');
  if (size % CLUSTER !== 0) {
    const inside = size % CLUSTER;
    await clearPieces(inode, Math.floor(size / CLUSTER), piecesCovered(inside, CLUSTER - inside), 'free');
  }
  inode.setSize(size);
}
