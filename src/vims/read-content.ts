/** Reading a file: from its clusters straight into the caller's buffer, in the same tick where the way is in memory. */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { Extent } from '../device/block-device.ts';
import { findEntry, readEntries } from './block-tree.ts';
import { entryCluster, entryWritten, writtenRun } from './cluster-map.ts';
import { ALL_PIECES, CLUSTER } from './geometry.ts';
import { inlineContent } from './inode.ts';
import { INODE_AT, ROOT_ENTRIES, TREE_AT, TREE_ENTRIES } from './layout.ts';
import type { OpenInode } from './open-inode.ts';

/** Fills `buffer`. The range lies inside the file. */
export function readContent(inode: OpenInode, buffer: Uint8Array, offset: number): MaybePromise<void> {
  if (inode.inline) {
    buffer.set(inlineContent(inode.block).subarray(offset, offset + buffer.length));
    return;
  }
  return readFrom(inode, buffer, offset, 0, undefined);
}

function readFrom(
  inode: OpenInode,
  buffer: Uint8Array,
  offset: number,
  start: number,
  underWay: Promise<void>[] | undefined,
): MaybePromise<void> {
  const { metadata, devices } = inode.core;
  let pending = underWay;
  for (let done = start; done < buffer.length; ) {
    const index = Math.floor((offset + done) / CLUSTER);
    const inside = (offset + done) % CLUSTER;
    const place = findEntry(metadata, inode.block, index);
    if (typeof place === 'number') {
      return readAfter(inode, place, () => readFrom(inode, buffer, offset, done, pending ?? []));
    }
    const rest = buffer.length - done;
    let length = Math.min(rest, CLUSTER - inside);
    const view = place?.block.view;
    const cluster = place && view ? entryCluster(view, place.offset) : 0;
    if (place === undefined || view === undefined || cluster === 0) {
      buffer.fill(0, done, done + length);
      done += length;
      continue;
    }
    const run = writtenRun(entryWritten(view, place.offset), inside);
    if (!run.written) {
      length = Math.min(length, run.length);
      buffer.fill(0, done, done + length);
      done += length;
      continue;
    }
    length = Math.min(
      rest,
      inside + run.length === CLUSTER ? run.length + follow(inode, place, cluster) : run.length,
    );
    const reading = devices.read(buffer.subarray(done, done + length), cluster, inside);
    if (isPromise(reading)) {
      if (done === 0 && length === buffer.length) return reading;
      (pending ??= []).push(reading);
    }
    done += length;
  }
  if (pending && pending.length > 0) return Promise.all(pending).then(() => undefined);
}

async function readAfter(inode: OpenInode, missing: number, work: () => MaybePromise<void>): Promise<void> {
  await inode.core.metadata.read('tree', missing, inode.block.address);
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
      if (!add(true, false, CLUSTER - ((offset + done) % CLUSTER))) break;
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
