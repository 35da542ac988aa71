/**
 * Names in a volume, and what they stand for. A path here is that inside the volume: `vm1/root.vvd`.
 *
 * Each change of names is one operation, so that after a crash it happened or did not.
 */
import { VimgError } from '../base/errors.ts';
import type { Block } from './block.ts';
import { Directory, type DirectoryEntry, nameBytes } from './directory.ts';
import { createInode, type InodeKind, kindOf, readInode, tooManyLinks } from './inode.ts';
import { INODE_AT } from './layout.ts';
import type { Operation } from './operation.ts';
import { addOrphan } from './remove-content.ts';
import type { VolumeCore } from './volume-core.ts';

/** A name, and the folder that it is in. */
export interface Place {
  readonly folder: Directory;
  readonly name: Uint8Array;
  readonly entry: DirectoryEntry | undefined;
}

const LINKS_MAX = 65_000;

export class Names {
  readonly #core: VolumeCore;
  readonly #root: number;

  constructor(core: VolumeCore, root: number) {
    this.#core = core;
    this.#root = root;
  }

  async #directory(address: number): Promise<Directory> {
    return new Directory(
      this.#core.metadata,
      this.#core.space,
      await readInode(this.#core.metadata, address),
    );
  }

  /** The inode of a path; undefined when nothing has the name. Between two operations only. */
  async find(path: string): Promise<Block | undefined> {
    let inode = await readInode(this.#core.metadata, this.#root);
    for (const part of partsOf(path)) {
      if (kindOf(inode) !== 'folder') return undefined;
      const entry = await (await this.#directory(inode.address)).find(nameBytes(part, path));
      if (!entry) return undefined;
      inode = await this.#inodeOf(entry);
    }
    return inode;
  }

  async #inodeOf(entry: DirectoryEntry): Promise<Block> {
    const inode = await readInode(this.#core.metadata, entry.inode);
    if (kindOf(inode) === entry.kind) return inode;
    throw new VimgError('CORRUPT', `'${entry.name}' is a ${entry.kind} in its folder, and none itself`);
  }

  /** @throws VimgError `NOT_FOUND` when nothing has the name */
  async require(path: string, op: string): Promise<Block> {
    const inode = await this.find(path);
    if (inode) return inode;
    throw missing(op, path);
  }

  /** Where a name is, or would be. @throws VimgError `NOT_FOUND` when its folder is missing, `USAGE` for no name */
  async place(path: string, op: string): Promise<Place> {
    const parts = partsOf(path);
    const last = parts.pop();
    if (last === undefined) throw new VimgError('USAGE', 'That is the root folder', { op, path });
    const inode = await this.find(parts.join('/'));
    if (!inode || kindOf(inode) !== 'folder') throw missing(op, path);
    const folder = await this.#directory(inode.address);
    const name = nameBytes(last, path);
    return { folder, name, entry: await folder.find(name) };
  }

  /** The names in a folder. @throws VimgError `NOT_FOUND` */
  async list(path: string): Promise<string[]> {
    const inode = await this.require(path, 'list');
    if (kindOf(inode) !== 'folder') throw new VimgError('NOT_FOUND', 'Not a directory', { op: 'list', path });
    const names: string[] = [];
    for await (const { name } of (await this.#directory(inode.address)).list()) names.push(name);
    return names;
  }

  /** Makes a file or a folder. @throws VimgError `EXISTS`, `NOT_FOUND`, `NO_SPACE` */
  async create(operation: Operation, path: string, kind: InodeKind): Promise<Block> {
    const { folder, name, entry } = await this.place(path, 'create');
    if (entry) throw new VimgError('EXISTS', 'File exists', { op: 'create', path });
    const inode = await createInode(operation, this.#core.space, kind, folder.inode.address);
    await folder.insert(operation, name, inode.address, kind);
    return inode;
  }

  /** Gives a file another name; what had that name loses it. @returns what has no name any more */
  async rename(operation: Operation, from: string, to: string): Promise<Block | undefined> {
    const source = await this.place(from, 'rename');
    if (!source.entry) throw missing('rename', from);
    const target = await this.place(to, 'rename');
    if (target.entry?.inode === source.entry.inode) {
      return this.#renameToItself(operation, source, target);
    }
    if (source.entry.kind === 'folder') await this.#refuseInside(source.entry.inode, target.folder, to);
    let left: Block | undefined;
    if (target.entry) {
      left = await this.#replaceable(target.entry, source.entry, to);
      await target.folder.set(operation, target.name, source.entry.inode);
    } else await target.folder.insert(operation, target.name, source.entry.inode, source.entry.kind);
    await source.folder.remove(operation, source.name);
    if (source.entry.kind === 'folder') {
      const moved = await readInode(this.#core.metadata, source.entry.inode);
      operation.edit(moved);
      moved.view.setBigUint64(INODE_AT.parent, BigInt(target.folder.inode.address), true);
    }
    return left ? this.#unlink(operation, left) : undefined;
  }

  /** Two names of one file: the first one goes. The same name: nothing happens. */
  async #renameToItself(operation: Operation, source: Place, target: Place): Promise<Block | undefined> {
    const same =
      source.folder.inode === target.folder.inode && Buffer.compare(source.name, target.name) === 0;
    if (same) return undefined;
    await source.folder.remove(operation, source.name);
    const inode = await readInode(this.#core.metadata, (source.entry as DirectoryEntry).inode);
    return this.#unlink(operation, inode);
  }

  /** What a rename may take the name of. */
  async #replaceable(entry: DirectoryEntry, by: DirectoryEntry, path: string): Promise<Block> {
    if (entry.kind !== by.kind || entry.kind === 'folder') {
      throw new VimgError('EXISTS', `A ${entry.kind} has the name`, { op: 'rename', path });
    }
    return this.#inodeOf(entry);
  }

  /** A folder must not come to lie in itself. */
  async #refuseInside(folder: number, target: Directory, path: string): Promise<void> {
    let at = target.inode;
    for (let depth = 0; at.address !== this.#root; depth++) {
      if (at.address === folder)
        throw new VimgError('USAGE', 'A folder cannot be moved into itself', { path });
      if (depth > 10_000) throw new VimgError('CORRUPT', 'The folders go round in a circle', { path });
      at = await readInode(this.#core.metadata, Number(at.view.getBigUint64(INODE_AT.parent, true)));
    }
  }

  /** Gives a file one more name. @throws VimgError `EXISTS`, `LIMIT` */
  async link(operation: Operation, path: string, second: string): Promise<void> {
    const inode = await this.require(path, 'link');
    if (kindOf(inode) !== 'file')
      throw new VimgError('USAGE', 'A folder has one name only', { op: 'link', path });
    const { folder, name, entry } = await this.place(second, 'link');
    if (entry) throw new VimgError('EXISTS', 'File exists', { op: 'link', path: second });
    const links = inode.view.getUint32(INODE_AT.links, true);
    if (links >= LINKS_MAX) throw tooManyLinks(path);
    await folder.insert(operation, name, inode.address, 'file');
    operation.edit(inode);
    inode.view.setUint32(INODE_AT.links, links + 1, true);
  }

  /** Removes a name of a file. @returns the file, when that was its last */
  async remove(operation: Operation, path: string): Promise<Block | undefined> {
    const { folder, name, entry } = await this.place(path, 'remove');
    if (!entry) throw missing('remove', path);
    if (entry.kind === 'folder') throw new VimgError('USAGE', 'It is a folder', { op: 'remove', path });
    const inode = await this.#inodeOf(entry);
    await folder.remove(operation, name);
    return this.#unlink(operation, inode);
  }

  /** Removes an empty folder. @returns it */
  async removeFolder(operation: Operation, path: string): Promise<Block> {
    const { folder, name, entry } = await this.place(path, 'remove');
    if (!entry) throw missing('remove', path);
    if (entry.kind !== 'folder') throw new VimgError('NOT_FOUND', 'Not a directory', { op: 'remove', path });
    const inode = await this.#inodeOf(entry);
    if (inode.view.getUint32(INODE_AT.entries, true) > 0) {
      throw new VimgError('USAGE', 'The folder is not empty', { op: 'remove', path });
    }
    await folder.remove(operation, name);
    await addOrphan(this.#core, operation, inode);
    return inode;
  }

  /** One name less. @returns the file when it has none any more: it is among the orphans then */
  async #unlink(operation: Operation, inode: Block): Promise<Block | undefined> {
    const links = inode.view.getUint32(INODE_AT.links, true);
    if (links > 1) {
      operation.edit(inode);
      inode.view.setUint32(INODE_AT.links, links - 1, true);
      return undefined;
    }
    await addOrphan(this.#core, operation, inode);
    return inode;
  }
}

/** The parts of a path inside a volume. */
export function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

export function missing(op: string, path: string): VimgError {
  return new VimgError('NOT_FOUND', 'No such file or directory', { op, path });
}
