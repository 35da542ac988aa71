/** Entries of a folder, packed one after the other into an inode or a bucket. Removing one moves up those behind. */
import { invariant } from '../base/errors.ts';
import { type Block, damaged, getU64, setU64 } from './block.ts';
import type { DirectoryEntry } from './directory.ts';
import type { InodeKind } from './inode.ts';
import { DIRECTORY_AT, KIND } from './layout.ts';

/** Where entries are. */
export interface EntryArea {
  readonly block: Block;
  readonly start: number;
  readonly length: number;
  /** Offset of the number of bytes that are used. */
  readonly usedAt: number;
  /** In an inode: the number of entries is kept by the folder itself. */
  readonly inode: boolean;
}

const ENTRY_AT = { inode: 0, hash: 8, kind: 12, nameLength: 13, name: 14 } as const;

function usedOf({ block, length, usedAt }: EntryArea): number {
  const used = block.view.getUint32(usedAt, true);
  if (used > length) throw damaged('A folder', block.address, `it claims ${used} bytes of names`);
  return used;
}

/** Whether there is room for one more entry. */
export function roomIn(area: EntryArea, name: Uint8Array): boolean {
  return usedOf(area) + ENTRY_AT.name + name.length <= area.length;
}

/** Offsets of all entries. @throws VimgError `CORRUPT` when one passes the end of what is used */
function* offsetsIn(area: EntryArea): Generator<number> {
  const { block, start } = area;
  const end = start + usedOf(area);
  for (let at = start; at < end; ) {
    const next =
      at + ENTRY_AT.name + (at + ENTRY_AT.name <= end ? block.view.getUint8(at + ENTRY_AT.nameLength) : 0);
    if (next > end || next === at + ENTRY_AT.name)
      throw damaged('A folder', block.address, 'a name is cut short');
    yield at;
    at = next;
  }
}

function nameAt(block: Block, at: number): Uint8Array {
  const start = at + ENTRY_AT.name;
  return block.bytes.subarray(start, start + block.view.getUint8(at + ENTRY_AT.nameLength));
}

function entryAt(block: Block, at: number): DirectoryEntry {
  const kind: InodeKind = block.view.getUint8(at + ENTRY_AT.kind) === KIND.folder ? 'folder' : 'file';
  return {
    name: Buffer.from(nameAt(block, at)).toString('utf8'),
    inode: getU64(block.view, at + ENTRY_AT.inode),
    kind,
  };
}

export function entriesIn(area: EntryArea): DirectoryEntry[] {
  return Array.from(offsetsIn(area), (at) => entryAt(area.block, at));
}

/** What an entry says byte for byte, for a check. */
export interface RawEntry extends DirectoryEntry {
  readonly hash: number;
  /** As it is stored: another number than those of the kinds may be there. */
  readonly kindNumber: number;
  readonly nameBytes: Uint8Array;
}

/** @throws VimgError `CORRUPT` when one passes the end of what is used */
export function rawEntriesIn(area: EntryArea): RawEntry[] {
  const { block } = area;
  return Array.from(offsetsIn(area), (at) => ({
    ...entryAt(block, at),
    hash: block.view.getUint32(at + ENTRY_AT.hash, true),
    kindNumber: block.view.getUint8(at + ENTRY_AT.kind),
    nameBytes: nameAt(block, at),
  }));
}

function offsetOf(area: EntryArea, hash: number, name: Uint8Array): number | undefined {
  const { block } = area;
  for (const at of offsetsIn(area)) {
    if (block.view.getUint32(at + ENTRY_AT.hash, true) !== hash) continue;
    if (Buffer.compare(nameAt(block, at), name) === 0) return at;
  }
  return undefined;
}

export function findIn(area: EntryArea, hash: number, name: Uint8Array): DirectoryEntry | undefined {
  const at = offsetOf(area, hash, name);
  return at === undefined ? undefined : entryAt(area.block, at);
}

/** Adds an entry where there is room. The block is being edited. */
export function insertInto(
  area: EntryArea,
  hash: number,
  name: Uint8Array,
  inode: number,
  kind: InodeKind,
): void {
  const { block, start } = area;
  const used = usedOf(area);
  invariant(roomIn(area, name), 'there is room for the name');
  const at = start + used;
  setU64(block.view, at + ENTRY_AT.inode, inode);
  block.view.setUint32(at + ENTRY_AT.hash, hash, true);
  block.view.setUint8(at + ENTRY_AT.kind, KIND[kind]);
  block.view.setUint8(at + ENTRY_AT.nameLength, name.length);
  block.bytes.set(name, at + ENTRY_AT.name);
  setUsed(area, used + ENTRY_AT.name + name.length, 1);
}

/** Removes an entry that is there. The block is being edited. */
export function removeFrom(area: EntryArea, hash: number, name: Uint8Array): void {
  const { block, start } = area;
  const at = offsetOf(area, hash, name);
  invariant(at !== undefined, 'the name is there');
  const length = ENTRY_AT.name + name.length;
  const end = start + usedOf(area);
  block.bytes.copyWithin(at, at + length, end);
  block.bytes.fill(0, end - length, end);
  setUsed(area, end - length - start, -1);
}

/** Lets an entry that is there lead to another inode. The block is being edited. */
export function setInodeIn(area: EntryArea, hash: number, name: Uint8Array, inode: number): void {
  const at = offsetOf(area, hash, name);
  invariant(at !== undefined, 'the name is there');
  setU64(area.block.view, at + ENTRY_AT.inode, inode);
}

function setUsed({ block, usedAt, inode }: EntryArea, used: number, change: 1 | -1): void {
  block.view.setUint32(usedAt, used, true);
  if (inode) return;
  const entries = block.view.getUint32(DIRECTORY_AT.entries, true);
  block.view.setUint32(DIRECTORY_AT.entries, entries + change, true);
}
