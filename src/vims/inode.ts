/** Inodes: the block that a file or a folder begins with. Its address is its number. */
import { VimgError } from '../base/errors.ts';
import { type Block, damaged, getU64, setU64 } from './block.ts';
import { CONTENT, INODE_AT, INODE_PAYLOAD, KIND, TREE_DEPTH_MAX } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { Operation } from './operation.ts';
import type { Space } from './space.ts';

export type InodeKind = 'file' | 'folder';

/** Reads an inode. @throws VimgError `CORRUPT` when there is none, or one that makes no sense */
export async function readInode(metadata: Pick<Metadata, 'read'>, address: number): Promise<Block> {
  const block = await metadata.read('inode', address, address);
  const problem = inodeProblem(block);
  if (problem) throw damaged('An inode', address, problem);
  return block;
}

/** What is wrong with the fields of an inode. */
function inodeProblem(inode: Block): string | undefined {
  const problem = contentProblem(inode);
  if (problem === undefined && inode.view.getUint32(INODE_AT.links, true) === 0) return 'it has no name';
  return problem;
}

/** What is wrong with the fields that say where its content is. */
export function contentProblem({ view }: Block): string | undefined {
  const kind = view.getUint8(INODE_AT.kind);
  if (kind !== KIND.file && kind !== KIND.folder) return `its kind is ${kind}`;
  const content = view.getUint8(INODE_AT.content);
  if (content !== CONTENT.inline && content !== CONTENT.tree) return `its content is ${content}`;
  const size = getU64(view, INODE_AT.size);
  if (content === CONTENT.inline && size > INODE_PAYLOAD) return `${size} bytes cannot be in it`;
  if (!Number.isSafeInteger(size)) return 'its size is too large';
  if (view.getUint8(INODE_AT.depth) > TREE_DEPTH_MAX) return 'its tree is too deep';
  if (view.getUint8(INODE_AT.hashBits) > 24) return 'its table of buckets is too large';
  return undefined;
}

export function kindOf({ view }: Block): InodeKind {
  return view.getUint8(INODE_AT.kind) === KIND.folder ? 'folder' : 'file';
}

/** Makes an empty file or folder with one name to come. @throws VimgError `NO_SPACE` */
export async function createInode(
  operation: Operation,
  space: Space,
  kind: InodeKind,
  parent: number,
): Promise<Block> {
  const address = await space.takeBlock(operation, parent);
  const block = operation.create('inode', address, address);
  initInode(block, kind, parent, operation.nextBirth());
  return block;
}

/** Fills a new inode in. */
export function initInode({ view, address }: Block, kind: InodeKind, parent: number, birth: number): void {
  view.setUint8(INODE_AT.kind, KIND[kind]);
  view.setUint8(INODE_AT.content, kind === 'folder' ? CONTENT.inline : CONTENT.tree);
  view.setUint32(INODE_AT.links, 1, true);
  setU64(view, INODE_AT.birth, birth);
  view.setBigUint64(INODE_AT.modifiedNs, nowNs(), true);
  if (kind === 'file') return;
  // any start does, so long as it differs from folder to folder
  view.setUint32(INODE_AT.seed, Math.imul(address ^ birth, 0x9e37_79b1) >>> 0, true);
  setU64(view, INODE_AT.parent, parent);
}

export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

/** The same text for the same file, for ever: an inode's block may become another file's. */
export function identityOf(volume: string, { view, address }: Block): string {
  return `vims ${volume} ${address} ${getU64(view, INODE_AT.birth)}`;
}

/** Bytes that are in the inode itself. */
export function inlineContent({ bytes, view }: Block): Uint8Array {
  return bytes.subarray(INODE_AT.payload, INODE_AT.payload + getU64(view, INODE_AT.size));
}

/** Adds to a 64-bit field of an inode that is being edited. */
export function addU64({ view }: Block, offset: number, change: number): void {
  setU64(view, offset, getU64(view, offset) + change);
}

/** @throws VimgError `NO_SPACE` naming the limit */
export function tooManyLinks(path: string): VimgError {
  return new VimgError('LIMIT', 'The file has too many names', { op: 'link', path });
}
