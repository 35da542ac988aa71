/**
 * A walk over everything that has a name, from the root folder and the folders of files without a name on. It tells
 * whoever takes down what is in use, and finds what is wrong with files and folders on the way.
 *
 * Memory: the folders that are yet to be looked at, and the files that have several names.
 */
import { type Block, getU64 } from './block.ts';
import { type FieldFix, shownBlock, shownPath, type VolumeFindings } from './check-findings.ts';
import { childPath, FolderCheck } from './check-folder.ts';
import { TreeWalk } from './check-tree.ts';
import { type Owner, shownRange, type Usage } from './check-usage.ts';
import { type BlockView, type FoundBlock, READS_AT_ONCE } from './check-view.ts';
import { entryCluster, entryProblem, entryShared } from './cluster-map.ts';
import type { RawEntry } from './directory-entries.ts';
import { contentProblem, kindOf } from './inode.ts';
import { CONTENT, INODE_AT } from './layout.ts';

/** A folder that is to be looked at. */
interface Task extends Owner {
  readonly inode: Block;
  /** Its entries are files without a name: what they were in before does not matter. */
  readonly orphans: boolean;
}

/** A file with several names, or that should have. */
interface Linked {
  readonly path: string;
  readonly stored: number;
  found: number;
}

/** Where files without a name are, in words. */
const ORPHANS = '(without a name)';

export class Walk {
  readonly #view: BlockView;
  readonly #usage: Usage;
  readonly #findings: VolumeFindings;
  readonly #tree: TreeWalk;
  readonly #step: () => void;
  readonly #folders: Task[] = [];
  readonly #linked = new Map<number, Linked>();

  /** @param step called now and then. It may throw `CANCELLED` */
  constructor(view: BlockView, usage: Usage, findings: VolumeFindings, step: () => void) {
    this.#view = view;
    this.#usage = usage;
    this.#findings = findings;
    this.#step = step;
    this.#tree = new TreeWalk(view, usage, findings);
  }

  async run(root: number, orphans: readonly number[]): Promise<void> {
    await this.#start(root, '', false);
    for (const address of orphans) await this.#start(address, ORPHANS, true);
    this.#tellLinks();
  }

  /** Walks through a folder that has no name itself. */
  async #start(address: number, path: string, orphans: boolean): Promise<void> {
    const owner: Owner = { path, kind: 'folder' };
    const inode = this.#inode(await this.#view.find('inode', address, address), address, owner);
    if (inode === undefined) return;
    if (inode === 'again' || kindOf(inode) !== 'folder') {
      this.#findings.lost(`${shownPath(path)} (${shownBlock(address)}) is no folder of its own`);
      return;
    }
    this.#checkParent(inode, owner, address);
    this.#countLink(inode, path, false);
    this.#folders.push({ ...owner, inode, orphans });
    for (let folder = this.#folders.pop(); folder; folder = this.#folders.pop()) await this.#folder(folder);
  }

  /** An inode that makes sense; undefined for one that is lost. */
  #inode({ block, problem }: FoundBlock, address: number, owner: Owner): Block | 'again' | undefined {
    const taken = block && this.#usage.block(address, owner, 0, 0);
    const wrong =
      problem ?? (typeof taken === 'object' ? taken.problem : undefined) ?? (block && contentProblem(block));
    if (block && wrong === undefined) return taken === 'again' ? 'again' : block;
    this.#findings.lost(
      `${shownPath(owner.path)}: its inode (${shownBlock(address)}): ${wrong}; all of it is lost`,
    );
    return undefined;
  }

  async #folder(task: Task): Promise<void> {
    const { inode } = task;
    const folder = new FolderCheck(this.#view, this.#tree, this.#usage, this.#findings);
    let names = 0;
    for await (const entries of folder.names(inode, task)) {
      names += entries.length;
      for (let at = 0; at < entries.length; at += READS_AT_ONCE) {
        await this.#entries(task, entries.slice(at, at + READS_AT_ONCE));
      }
    }
    if (folder.whole) this.#checkNames(task, names);
    this.#checkClusters(inode, task, 0);
  }

  #checkNames({ inode, path }: Task, names: number): void {
    const stored = inode.view.getUint32(INODE_AT.entries, true);
    if (stored === names) return;
    // one that is missing may have led to what no name leads to
    if (stored > names) this.#findings.doubtful = true;
    const message = `the folder ${shownPath(path)} claims ${stored} names and has ${names}`;
    const fix = { ...fieldOf(inode, INODE_AT.entries, 4, names), unlessLeaks: stored > names };
    this.#findings.mendable('corruption', message, fix);
  }

  async #entries(folder: Task, entries: readonly RawEntry[]): Promise<void> {
    const inodes = await Promise.all(entries.map(({ inode }) => this.#view.find('inode', inode, inode)));
    for (const [i, entry] of entries.entries()) await this.#entry(folder, entry, inodes[i] as FoundBlock);
  }

  async #entry(folder: Task, entry: RawEntry, found: FoundBlock): Promise<void> {
    this.#step();
    const path = childPath(folder.path, entry.name);
    const owner: Owner = { path, kind: entry.kind };
    const inode = this.#inode(found, entry.inode, owner);
    if (inode === undefined) return;
    const block = inode === 'again' ? (found.block as Block) : inode;
    const kind = kindOf(block);
    if (kind !== entry.kind) {
      this.#findings.unproven(`${shownPath(path)} is a ${entry.kind} in its folder, and a ${kind} itself`);
    }
    if (folder.orphans && entry.name !== entry.inode.toString(16)) {
      this.#findings.unproven(`${shownPath(path)}: a file without a name is not noted under its number`);
    }
    this.#countLink(block, path, inode === 'again');
    if (inode === 'again') this.#tellSecondName(entry, { path, kind }, folder.orphans);
    else if (kind === 'folder') {
      if (!folder.orphans) this.#checkParent(inode, owner, folder.inode.address);
      this.#folders.push({ path, kind, inode, orphans: false });
    } else await this.#file(inode, { path, kind });
  }

  #tellSecondName(entry: RawEntry, { path, kind }: Owner, orphans: boolean): void {
    if (kind !== 'folder' && !orphans) return;
    this.#findings.suspect({
      kind: 'block',
      first: entry.inode,
      count: 1,
      share: false,
      tell: (first) =>
        this.#findings.unproven(
          orphans
            ? `${first} is also noted as a file without a name: it will be deleted when the volume is attached`
            : `the folder ${shownPath(path)} has another name as well: ${first}`,
        ),
    });
  }

  #checkParent(inode: Block, owner: Owner, parent: number): void {
    const stored = getU64(inode.view, INODE_AT.parent);
    if (stored === parent) return;
    const message = `the folder ${shownPath(owner.path)} says that it is in ${shownBlock(stored)}, and is in ${shownBlock(parent)}`;
    this.#findings.mendable('corruption', message, fieldOf(inode, INODE_AT.parent, 8, parent));
  }

  /** Counts a name. Only files with other than one name are kept in mind. */
  #countLink(inode: Block, path: string, again: boolean): void {
    const known = this.#linked.get(inode.address);
    if (known) {
      known.found++;
      return;
    }
    const stored = inode.view.getUint32(INODE_AT.links, true);
    if (again || stored !== 1) this.#linked.set(inode.address, { path, stored, found: again ? 2 : 1 });
  }

  #tellLinks(): void {
    for (const [address, { path, stored, found }] of this.#linked) {
      if (stored === found) continue;
      const message = `${shownPath(path)} has ${found} names, and says that it has ${stored}`;
      const fix: FieldFix = { type: 'inode', address, offset: INODE_AT.links, size: 4, value: found };
      this.#findings.mendable(found > stored ? 'corruption' : 'leak', message, fix);
    }
  }

  async #file(inode: Block, owner: Owner): Promise<void> {
    if (inode.view.getUint8(INODE_AT.content) === CONTENT.inline) {
      this.#checkClusters(inode, owner, 0);
      return;
    }
    let clusters = 0;
    const whole = await this.#tree.run(inode, owner, (block, offset, first, count) => {
      clusters += this.#leaf(block, offset, first, count, owner);
    });
    if (whole) this.#checkClusters(inode, owner, clusters);
  }

  /** @returns entries that are not empty */
  #leaf(block: Block, offset: number, first: number, count: number, owner: Owner): number {
    const { view } = block;
    let mapped = 0;
    for (let i = 0; i < count; i++) {
      const at = offset + i * 8;
      if (view.getInt32(at, true) === 0 && view.getInt32(at + 4, true) === 0) continue;
      mapped++;
      const problem =
        entryProblem(view, at) ??
        this.#usage.cluster(entryCluster(view, at), entryShared(view, at), owner, first + i, block, at);
      if (problem !== undefined) this.#tellEntry(owner, first + i, problem);
    }
    return mapped;
  }

  #tellEntry(owner: Owner, index: number, problem: string): void {
    const { hasRoom } = this.#findings;
    this.#findings.lost(hasRoom ? `${shownRange(owner, index, 1)}: ${problem}` : '');
  }

  #checkClusters(inode: Block, { path }: Owner, clusters: number): void {
    const stored = getU64(inode.view, INODE_AT.clusters);
    if (stored === clusters) return;
    const message = `${shownPath(path)} claims ${stored} clusters and has ${clusters}`;
    this.#findings.mendable('corruption', message, fieldOf(inode, INODE_AT.clusters, 8, clusters));
  }
}

function fieldOf(inode: Block, offset: number, size: 4 | 8, value: number): FieldFix {
  return { type: 'inode', address: inode.address, offset, size, value };
}
