/** The files of an attached volume as a place for disk files: paths as users write them, `ds1:vm1/root.vvd`. */
import { isVimgError, VimgError } from '../base/errors.ts';
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { DiskFile, FileStatus, FileSystem } from '../device/file-system.ts';
import { type Block, getU64, setU64 } from './block.ts';
import { copyContent } from './copy-content.ts';
import { CLUSTER } from './geometry.ts';
import { createInode, identityOf, kindOf } from './inode.ts';
import { CONTENT, INODE_AT, INODE_PAYLOAD } from './layout.ts';
import { missing, Names, partsOf } from './names.ts';
import { OpenInode } from './open-inode.ts';
import type { Operation } from './operation.ts';
import { addOrphan, deleteOrphan, removeOrphan } from './remove-content.ts';
import { VimsFile } from './vims-file.ts';
import type { VolumeCore } from './volume-core.ts';
import { writeContent } from './write-content.ts';

export class VimsFiles implements FileSystem {
  readonly #core: VolumeCore;
  readonly #names: Names;
  readonly #place: string;
  readonly #open = new Map<number, OpenInode>();
  /** Files whose last name went while they were open. */
  readonly #nameless = new Set<number>();

  constructor(core: VolumeCore, root: number, place: string) {
    this.#core = core;
    this.#names = new Names(core, root);
    this.#place = place;
  }

  /** Files that are open. */
  get openFiles(): number {
    return this.#open.size;
  }

  async open(path: string, options: FileDeviceOptions): Promise<DiskFile> {
    const { create, readOnly = false } = options;
    if (this.#core.metadata.readOnly && !readOnly) {
      throw new VimgError('READ_ONLY', 'The volume is attached for reading only', { op: 'open', path });
    }
    const inode = await this.#told(path, () => this.#findOrMake(path, create));
    const file = new VimsFile(options.name ?? path, inode, readOnly, () => this.#leave(inode));
    try {
      if (create === 'truncate' && file.size > 0) await file.resize(0);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #findOrMake(path: string, create: FileDeviceOptions['create']): Promise<OpenInode> {
    const inner = innerOf(path);
    if (create === undefined) {
      return this.#core.metadata.look(() => this.#useFile(inner));
    }
    return this.#change(async (operation) => {
      const { entry } = await this.#names.place(inner, 'create');
      if (entry && create !== 'exclusive') return this.#useFile(inner);
      const block = await this.#names.create(operation, inner, 'file');
      const inode = this.#use(block);
      operation.undo(() => this.#open.delete(block.address));
      return inode;
    });
  }

  async #useFile(inner: string): Promise<OpenInode> {
    const block = await this.#names.require(inner, 'open');
    if (kindOf(block) === 'file') return this.#use(block);
    throw new VimgError('USAGE', 'A folder can be no disk', { op: 'open', path: inner });
  }

  /** The open file of an inode, with one user more. */
  #use(block: Block): OpenInode {
    let inode = this.#open.get(block.address);
    if (!inode) {
      inode = new OpenInode(this.#core, block);
      this.#open.set(block.address, inode);
    }
    inode.users++;
    return inode;
  }

  /** Who opens a file while the last user leaves it goes on with it: it stays open until its block says all. */
  async #leave(inode: OpenInode): Promise<void> {
    const { metadata } = this.#core;
    try {
      while (inode.users === 1 && inode.unwritten && !metadata.readOnly && !metadata.failed) {
        await metadata.change((operation) => inode.writeAttributesNow(operation));
      }
    } finally {
      inode.users--;
      if (inode.users === 0) await this.#forget(inode);
    }
  }

  async #forget(inode: OpenInode): Promise<void> {
    const { address } = inode.block;
    this.#open.delete(address);
    inode.release();
    const last = this.#nameless.delete(address);
    if (last && !this.#core.metadata.failed) await deleteOrphan(this.#core, address);
  }

  /** An operation on names. */
  async #change<T>(work: (operation: Operation) => Promise<T>): Promise<T> {
    await this.#core.space.prepare();
    return this.#core.metadata.change(work);
  }

  /** Says the user's path when it fails. */
  async #told<T>(path: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isVimgError(error) && (error.path === undefined || error.path === innerOf(path)))
        throw error.about(path);
      throw error;
    }
  }

  async status(path: string): Promise<FileStatus | undefined> {
    return this.#told(path, () =>
      this.#core.metadata.look(async () => {
        const block = await this.#names.find(innerOf(path));
        return block ? this.#statusOf(block) : undefined;
      }),
    );
  }

  #statusOf(block: Block): FileStatus {
    const open = this.#open.get(block.address);
    const folder = kindOf(block) === 'folder';
    const size = folder ? 0 : (open?.size ?? getU64(block.view, INODE_AT.size));
    return {
      kind: folder ? 'folder' : 'file',
      size,
      allocated: getU64(block.view, INODE_AT.clusters) * CLUSTER,
      identity: identityOf(this.#core.metadata.volume, block),
      volume: this.#core.metadata.volume,
      modifiedNs: open?.modifiedNs ?? block.view.getBigUint64(INODE_AT.modifiedNs, true),
    };
  }

  list(folder: string): Promise<string[]> {
    return this.#told(folder, () => this.#core.metadata.look(() => this.#names.list(innerOf(folder))));
  }

  async realPath(path: string): Promise<string> {
    if (!(await this.status(path))) throw missing('open', path);
    return `${this.#place}:${partsOf(innerOf(path)).join('/')}`;
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#told(from, async () => {
      await this.#afterwards(
        await this.#change((operation) => this.#names.rename(operation, innerOf(from), innerOf(to))),
      );
    });
  }

  /** What lost its last name is deleted, now or when it is closed. */
  async #afterwards(left: Block | undefined): Promise<void> {
    if (!left) return;
    if (this.#open.has(left.address)) this.#nameless.add(left.address);
    else await deleteOrphan(this.#core, left.address);
  }

  link(path: string, second: string): Promise<void> {
    return this.#told(path, () =>
      this.#change((operation) => this.#names.link(operation, innerOf(path), innerOf(second))),
    );
  }

  remove(path: string): Promise<void> {
    return this.#told(path, async () => {
      await this.#afterwards(await this.#change((operation) => this.#names.remove(operation, innerOf(path))));
    });
  }

  makeFolder(path: string): Promise<void> {
    return this.#told(path, async () => {
      await this.#change((operation) => this.#names.create(operation, innerOf(path), 'folder'));
    });
  }

  removeFolder(path: string): Promise<void> {
    return this.#told(path, async () => {
      await this.#afterwards(
        await this.#change((operation) => this.#names.removeFolder(operation, innerOf(path))),
      );
    });
  }

  /** Makes every change of names durable, and every write that ended before. */
  async syncFolder(_folder: string): Promise<void> {
    await this.#core.metadata.flush();
  }

  async replace(path: string, content: Uint8Array | string): Promise<void> {
    const bytes = Buffer.from(content);
    await this.#told(path, () =>
      this.#putInPlace(path, 'replace', async (inode) => {
        if (bytes.length > INODE_PAYLOAD) await writeContent(inode, bytes, 0);
        else await this.#change((operation) => Promise.resolve(setInline(operation, inode, bytes)));
      }),
    );
    await this.#core.metadata.flush();
  }

  /** Both have the same clusters until one of them is written. Takes as long as the file has clusters, not bytes. */
  async copy(path: string, target: string): Promise<boolean> {
    try {
      await this.#copyNow(path, target);
      return true;
    } catch (error) {
      if (isVimgError(error, 'LIMIT')) return false; // too many share a cluster already
      throw error;
    }
  }

  async #copyNow(path: string, target: string): Promise<void> {
    const source = await this.#told(path, () => this.#findOrMake(path, undefined));
    try {
      await this.#told(target, () => this.#putInPlace(target, 'new', (inode) => copyContent(source, inode)));
    } finally {
      await this.#leave(source);
    }
  }

  /**
   * Makes a file without a name, fills it, and gives it a name at one instant.
   *
   * @throws VimgError `EXISTS` when it must be a `new` one and the name is taken, before or then
   */
  async #putInPlace(
    path: string,
    mode: 'new' | 'replace',
    fill: (inode: OpenInode) => Promise<void>,
  ): Promise<void> {
    const inner = innerOf(path);
    const inode = await this.#change(async (operation) => {
      const { folder, entry } = await this.#names.place(inner, 'create');
      if (entry && mode === 'new') throw taken(inner);
      const block = await createInode(operation, this.#core.space, 'file', folder.inode.address);
      await addOrphan(this.#core, operation, block);
      return this.#use(block);
    });
    this.#nameless.add(inode.block.address);
    try {
      await fill(inode);
      const left = await this.#change((operation) => this.#nameIt(operation, inner, inode, mode));
      this.#nameless.delete(inode.block.address);
      await this.#afterwards(left);
    } finally {
      await this.#leave(inode);
    }
  }

  async #nameIt(
    operation: Operation,
    inner: string,
    inode: OpenInode,
    mode: 'new' | 'replace',
  ): Promise<Block | undefined> {
    const { address } = inode.block;
    await removeOrphan(this.#core, operation, address);
    const { folder, name, entry } = await this.#names.place(inner, 'create');
    inode.writeAttributesNow(operation);
    if (!entry) {
      await folder.insert(operation, name, address, 'file');
      return undefined;
    }
    if (mode === 'new') throw taken(inner);
    if (entry.kind === 'folder') throw new VimgError('EXISTS', 'A folder has the name', { op: 'create' });
    const left = await this.#names.remove(operation, inner);
    await folder.insert(operation, name, address, 'file');
    return left;
  }

  keepOwner(_path: string, _replaced: FileStatus): Promise<void> {
    return Promise.resolve(); // files of a volume have no owners
  }
}

function taken(path: string): VimgError {
  return new VimgError('EXISTS', 'File exists', { op: 'create', path });
}

function setInline(operation: Operation, inode: OpenInode, bytes: Uint8Array): void {
  operation.edit(inode.block);
  const { view } = inode.block;
  view.setUint8(INODE_AT.content, CONTENT.inline);
  inode.block.bytes.set(bytes, INODE_AT.payload);
  setU64(view, INODE_AT.size, bytes.length);
  inode.size = bytes.length;
  inode.issuedEnd = bytes.length;
}

/** `ds1:a/b` is `a/b` inside. */
function innerOf(path: string): string {
  return path.slice(path.indexOf(':') + 1);
}
