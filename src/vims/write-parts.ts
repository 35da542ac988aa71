/**
 * Writing parts of a file, whatever its size. What is written already is written in place, in the same tick where the
 * way is in memory. Otherwise data goes to its cluster first, and then the entry says that it is there: a reader sees
 * the old or the new, and so does whoever comes after a crash, since a commit flushes data before it writes the entry.
 */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { setU64 } from './block.ts';
import { findEntry, makeEntryPlace, readEntryPlace } from './block-tree.ts';
import {
  entryCluster,
  entryShared,
  entryWritten,
  piecesCovered,
  piecesTouched,
  setEntry,
} from './cluster-map.ts';
import { CLUSTER, PIECE, PIECES } from './geometry.ts';
import { addU64, inlineContent } from './inode.ts';
import { CONTENT, INODE_AT } from './layout.ts';
import type { OpenInode } from './open-inode.ts';
import type { Operation } from './operation.ts';

/** What an entry says. */
export interface Mapped {
  /** 0 for none. */
  readonly cluster: number;
  readonly written: number;
  readonly shared: boolean;
}

const UNMAPPED: Mapped = { cluster: 0, written: 0, shared: false };

export async function readMapped(inode: OpenInode, index: number): Promise<Mapped> {
  const place = await readEntryPlace(inode.core.metadata, inode.block, index);
  if (!place) return UNMAPPED;
  const { view } = place.block;
  return {
    cluster: entryCluster(view, place.offset),
    written: entryWritten(view, place.offset),
    shared: entryShared(view, place.offset),
  };
}

/** A run of clusters that is written in place. */
interface PlaceRun {
  readonly cluster: number;
  readonly inside: number;
  readonly from: number;
  length: number;
}

/** Writes by who is under way already. When it fails, a part may be written, and nothing is under way any more. */
export function writeParts(inode: OpenInode, buffer: Uint8Array, offset: number): MaybePromise<void> {
  const pending: Promise<void>[] = [];
  let run: PlaceRun | undefined;
  const end = (): void => {
    if (!run) return;
    const part = buffer.subarray(run.from, run.from + run.length);
    const writing = inode.core.devices.write(part, run.cluster, run.inside);
    if (isPromise(writing)) pending.push(writing);
    run = undefined;
  };
  try {
    for (let done = 0; done < buffer.length; ) {
      const index = Math.floor((offset + done) / CLUSTER);
      const inside = (offset + done) % CLUSTER;
      const length = Math.min(buffer.length - done, CLUSTER - inside);
      const cluster = writableCluster(inode, index, inside, length);
      if (cluster === 0) {
        end();
        pending.push(writeNew(inode, index, inside, buffer.subarray(done, done + length)));
      } else if (
        run &&
        cluster === run.cluster + Math.floor((run.inside + run.length) / CLUSTER) &&
        inside === 0
      ) {
        run.length += length;
      } else {
        end();
        run = { cluster, inside, from: done, length };
      }
      done += length;
    }
    end();
  } catch (error) {
    pending.push(Promise.reject(error)); // the others must end first: they use the buffer
  }
  if (pending.length === 0) return;
  return pending.length === 1 ? pending[0] : settleAll(pending);
}

/** Nothing may be under way any more when a transfer fails. */
export async function settleAll(pending: readonly Promise<void>[]): Promise<void> {
  for (const part of await Promise.allSettled(pending)) if (part.status === 'rejected') throw part.reason;
}

/** The cluster of an entry, when the range can be written in place and that is known in this tick; else 0. */
function writableCluster(inode: OpenInode, index: number, inside: number, length: number): number {
  const place = findEntry(inode.core.metadata, inode.block, index);
  if (place === undefined || typeof place === 'number') return 0;
  const { view } = place.block;
  const touched = piecesTouched(inside, length);
  if ((entryWritten(view, place.offset) & touched) !== touched || entryShared(view, place.offset)) return 0;
  return entryCluster(view, place.offset);
}

/** Writes a part of one cluster, whose entry may have to be changed for that. */
async function writeNew(inode: OpenInode, index: number, inside: number, data: Uint8Array): Promise<void> {
  const leave = await inode.gate.enter(index);
  try {
    const before = await readMapped(inode, index);
    const touched = piecesTouched(inside, data.length);
    const { counts, devices, space } = inode.core;
    const copies = before.shared && !(await counts.ownedAlone(before.cluster));
    if (before.cluster !== 0 && !copies) {
      await writeWithZeroes(inode, before.cluster, before.written, inside, data);
      const written = before.written | touched;
      if (written === before.written && !before.shared) return;
      await changeEntry(inode, index, before, { cluster: before.cluster, written, shared: false });
      return;
    }
    const cluster = await inode.reserve(index);
    try {
      if (copies) await copyOver(inode, before, cluster, inside, data);
      else await writeWithZeroes(inode, cluster, 0, inside, data);
      await changeEntry(inode, index, before, { cluster, written: before.written | touched, shared: false });
    } catch (error) {
      await devices.drained(); // a part of the write may still be on its way
      space.giveBack({ cluster, length: 1 });
      throw error;
    }
  } finally {
    leave();
  }
}

/** Writes data into a cluster, with zeroes up to the borders of pieces that were not written before. */
async function writeWithZeroes(
  inode: OpenInode,
  cluster: number,
  written: number,
  inside: number,
  data: Uint8Array,
): Promise<void> {
  const end = inside + data.length;
  const first = Math.floor(inside / PIECE);
  const last = Math.floor((end - 1) / PIECE);
  const from = (written >> first) & 1 ? inside : first * PIECE;
  const to = (written >> last) & 1 ? end : (last + 1) * PIECE;
  let bytes = data;
  if (from < inside || to > end) {
    bytes = new Uint8Array(to - from);
    bytes.set(data, inside - from);
  }
  await inode.core.devices.write(bytes, cluster, from);
}

/** Copies what is written of a shared cluster into one of our own, with new data over it. */
async function copyOver(
  inode: OpenInode,
  before: Mapped,
  cluster: number,
  inside: number,
  data: Uint8Array,
): Promise<void> {
  const content = new Uint8Array(CLUSTER);
  const { devices } = inode.core;
  for (const [from, to] of runsOf(before.written & ~piecesCovered(inside, data.length))) {
    await devices.read(content.subarray(from, to), before.cluster, from);
  }
  content.set(data, inside);
  for (const [from, to] of runsOf(before.written | piecesTouched(inside, data.length))) {
    await devices.write(content.subarray(from, to), cluster, from);
  }
}

/** The bytes from where to where that pieces stand for. */
function runsOf(pieces: number): [from: number, to: number][] {
  const runs: [number, number][] = [];
  for (let i = 0; i < PIECES; i++) {
    if (((pieces >> i) & 1) === 0) continue;
    const last = runs.at(-1);
    if (last && last[1] === i * PIECE) last[1] += PIECE;
    else runs.push([i * PIECE, (i + 1) * PIECE]);
  }
  return runs;
}

/** Lets an entry say something else; the counts follow. The caller is in the gate. */
export async function changeEntry(
  inode: OpenInode,
  index: number,
  before: Mapped,
  after: Mapped,
): Promise<void> {
  const { counts, metadata, space } = inode.core;
  await metadata.change(async (operation) => {
    const place = await makeEntryPlace(operation, space, inode.block, index);
    if (after.cluster !== before.cluster) {
      await counts.use(operation, after.cluster);
      if (before.cluster !== 0) await counts.drop(operation, before.cluster);
      else {
        operation.edit(inode.block);
        addU64(inode.block, INODE_AT.clusters, 1);
      }
    }
    setEntry(place.block.view, place.offset, after.cluster, after.written, after.shared);
  });
}

/** Moves content that is in the inode into a cluster. */
export async function leaveInode(inode: OpenInode): Promise<void> {
  const leave = await inode.gate.enter(0);
  try {
    if (!inode.inline) return;
    const content = inlineContent(inode.block).slice();
    const { counts, metadata, space } = inode.core;
    const cluster = content.length > 0 ? await inode.reserve(0) : 0;
    try {
      if (cluster !== 0) await writeWithZeroes(inode, cluster, 0, 0, content);
      await metadata.change(async (operation) => {
        if (cluster !== 0) await counts.use(operation, cluster);
        setTree(operation, inode, cluster);
      });
    } catch (error) {
      if (cluster !== 0) space.giveBack({ cluster, length: 1 });
      throw error;
    }
  } finally {
    leave();
  }
}

function setTree(operation: Operation, inode: OpenInode, cluster: number): void {
  operation.edit(inode.block);
  const { bytes, view } = inode.block;
  bytes.fill(0, INODE_AT.payload);
  view.setUint8(INODE_AT.content, CONTENT.tree);
  if (cluster === 0) return;
  setEntry(view, INODE_AT.payload, cluster, 1, false);
  setU64(view, INODE_AT.clusters, 1);
}
