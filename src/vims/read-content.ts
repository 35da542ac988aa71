/** Reading a file: from its clusters straight into the caller's buffer, in the same tick where the way is in memory. */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { Extent } from '../device/block-device.ts';
import { findEntry, nextLeaf, readEntries } from './block-tree.ts';
import { entryCluster, entryWritten, writtenRun } from './cluster-map.ts';
import { ALL_PIECES, CLUSTER } from './geometry.ts';
import { inlineContent } from './inode.ts';
import { INODE_AT, ROOT_ENTRIES, TREE_AT, TREE_ENTRIES } from './layout.ts';
import type { OpenInode } from './open-inode.ts';
import { settleAll } from './write-parts.ts';

/** Fills `buffer`. The range lies inside the file. */
export function readContent(inode: OpenInode, buffer: Uint8Array, offset: number): MaybePromise<void> {
  if (inode.inline) {
    buffer.set(inlineContent(inode.block).subarray(offset, offset + buffer.length));
    return;
  }
  return readFrom(inode, buffer, offset, 0, []);
}

/** Reads from `start` on, while earlier parts are being read. When it fails, nothing is under way any more. */
function readFrom(
  inode: OpenInode,
  buffer: Uint8Array,
  offset: number,
  start: number,
  pending: Promise<void>[],
): MaybePromise<void> {
  try {
    for (let done = start; done < buffer.length; ) {
      const length = readPart(inode, buffer, offset, done, pending);
      if (length < 0)
        return readAfter(inode, -length, pending, () => readFrom(inode, buffer, offset, done, pending));
      done += length;
    }
  } catch (error) {
    pending.push(Promise.reject(error)); // the others must end first: they use the buffer
  }
  if (pending.length > 0) return pending.length === 1 ? pending[0] : settleAll(pending);
}

/** Begins to read what lies together. @returns its bytes; or the negative address of a block to be read first */
function readPart(
  inode: OpenInode,
  buffer: Uint8Array,
  offset: number,
  done: number,
  pending: Promise<void>[],
): number {
  const { metadata, devices } = inode.core;
  const inside = (offset + done) % CLUSTER;
  const place = findEntry(metadata, inode.block, Math.floor((offset + done) / CLUSTER));
  if (typeof place === 'number') return -place;
  const rest = buffer.length - done;
  const view = place?.block.view;
  const cluster = place && view ? entryCluster(view, place.offset) : 0;
  if (place === undefined || view === undefined || cluster === 0) {
    const length = Math.min(rest, CLUSTER - inside);
    buffer.fill(0, done, done + length);
    return length;
  }
  const run = writtenRun(entryWritten(view, place.offset), inside);
  if (!run.written) {
    const length = Math.min(rest, run.length);
    buffer.fill(0, done, done + length);
    return length;
  }
  const behind = inside + run.length === CLUSTER ? follow(inode, place, cluster) : 0;
  const length = Math.min(rest, run.length + behind);
  const reading = devices.read(buffer.subarray(done, done + length), cluster, inside);
  if (isPromise(reading)) pending.push(reading);
  return length;
}

async function readAfter(
  inode: OpenInode,
  missing: number,
  pending: Promise<void>[],
  work: () => MaybePromise<void>,
): Promise<void> {
  try {
    await inode.core.metadata.read('tree', missing, inode.block.address);
  } catch (error) {
    await Promise.allSettled(pending);
    throw error;
  }
  await work();
}

/** Bytes of written clusters behind this one that also lie behind it on the device, as far as its block tells. */
function follow(
  inode: OpenInode,
  place: { block: { view: DataView }; offset: number },
  cluster: number,
): number {
  const { view } = place.block;
  const end =
    place.block === inode.block ? INODE_AT.payload + ROOT_ENTRIES * 8 : TREE_AT.entries + TREE_ENTRIES * 8;
  let count = 0;
  for (let at = place.offset + 8; at < end && count < 8; at += 8) {
    if (entryCluster(view, at) !== cluster + count + 1 || entryWritten(view, at) !== ALL_PIECES) break;
    count++;
  }
  return count * CLUSTER;
}

/** What is at `offset`: the first extent, `length` long at most. The range lies inside the file. */
export async function contentStatus(inode: OpenInode, offset: number, length: number): Promise<Extent> {
  if (inode.inline) return { offset, length, zero: false, allocated: true };
  const { metadata } = inode.core;
  let found: { zero: boolean; allocated: boolean } | undefined;
  let done = 0;
  const add = (zero: boolean, allocated: boolean, bytes: number): boolean => {
    if (found && (found.zero !== zero || found.allocated !== allocated)) return false;
    found = { zero, allocated };
    done += bytes;
    return true;
  };
  while (done < length) {
    const index = Math.floor((offset + done) / CLUSTER);
    const entries = await readEntries(metadata, inode.block, index);
    if (!entries) {
      const next = (await nextLeaf(metadata, inode.block, index)) ?? Number.POSITIVE_INFINITY;
      if (!add(true, false, Math.min(length, Math.max(next, index + 1) * CLUSTER - offset) - done)) break;
      continue;
    }
    if (
      !addLeaf(
        entries.block.view,
        entries.offset,
        entries.count,
        () => (offset + done) % CLUSTER,
        add,
        () => done < length,
      )
    )
      break;
  }
  return {
    offset,
    length: Math.min(done, length),
    zero: found?.zero ?? true,
    allocated: found?.allocated ?? false,
  };
}

/** Goes through the entries of a leaf. @returns false when something else begins */
function addLeaf(
  view: DataView,
  offset: number,
  count: number,
  inside: () => number,
  add: (zero: boolean, allocated: boolean, bytes: number) => boolean,
  more: () => boolean,
): boolean {
  for (let i = 0; i < count && more(); i++) {
    const at = offset + i * 8;
    if (entryCluster(view, at) === 0) {
      if (!add(true, false, CLUSTER - inside())) return false;
      continue;
    }
    const written = entryWritten(view, at);
    do {
      const run = writtenRun(written, inside());
      if (!add(!run.written, true, run.length)) return false;
    } while (inside() !== 0 && more());
  }
  return true;
}
