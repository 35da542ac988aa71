/**
 * Where the next clusters of an open file are to lie.
 *
 * Clusters that follow each other in the file shall do so on the device, in whatever order they are written. So a
 * cluster goes where it belongs beside those that the file has near it, if that is free. Where the file has nothing
 * yet, a run is reserved for all of a window of it, and the cluster gets its place in there:
 *
 *     index in the file   …  64  65  66  67  68  69  …            first write here: 66
 *     on the device          r   r+1 [r+2] r+3 r+4 r+5            65 gets r + 1 when it comes
 *
 * Reservations are in memory only. A file has few of them, the latest; others go back, and back go all when space is
 * short or the file is closed. Then its neighbours still know where a cluster belongs, and it lies there unless
 * somebody needed the place.
 */
import type { Block } from './block.ts';
import { type EntryPlace, readEntryPlace } from './block-tree.ts';
import { entryCluster, entryShared } from './cluster-map.ts';
import { SEGMENT } from './free-map.ts';
import { CLUSTER } from './geometry.ts';
import type { Run } from './group.ts';
import { INODE_AT, ROOT_ENTRIES, TREE_AT, TREE_ENTRIES } from './layout.ts';
import type { VolumeCore } from './volume-core.ts';

/** A file that has little gets small windows. */
const WINDOW_MIN = 4;
/** A file that is large will have many clusters: windows are this part of its size, up to a segment. */
const WINDOWS_OF_SIZE = 4;
/** Windows of a file that are reserved at the same time: it may grow in several places. */
const WINDOWS_MAX = 8;
/** Neighbours that lie in different places, each of which is tried. */
const PLACES_MAX = 4;

/** What the placement wants to know of its file. */
export interface PlacedFile {
  readonly core: Pick<VolumeCore, 'metadata' | 'space'>;
  readonly block: Block;
  /** Bytes. */
  readonly size: number;
  /** That it has. */
  readonly clusters: number;
}

/** Clusters reserved for entries that follow each other. */
interface Window {
  readonly first: number;
  readonly run: Run;
  /** By the number in it: 1 is in use. */
  readonly used: Uint8Array;
  left: number;
}

/** What there is near an entry. */
interface Surroundings {
  /** Where its cluster belongs by those of its neighbours, the nearest first. */
  readonly places: readonly number[];
  /** Entries from where to where that want a place, in the same window. */
  readonly from: number;
  readonly end: number;
}

export class Placement {
  readonly #file: PlacedFile;
  /** The latest last. */
  readonly #windows: Window[] = [];

  constructor(file: PlacedFile) {
    this.#file = file;
  }

  /** Reserves a cluster for an entry. @throws VimgError `NO_SPACE` */
  async reserve(index: number): Promise<number> {
    const known = this.#take(index);
    if (known !== undefined) return known;
    const { space } = this.#file.core;
    const { places, from, end } = await this.#lookAround(index);
    for (const place of places) {
      const run = await space.reserveAround(place, index - from, end - index);
      if (run) return this.#open(index, index - (place - run.cluster), run);
    }
    const run = await space.reserve(end - from);
    return this.#open(index, from + Math.floor((index - from) / run.length) * run.length, run);
  }

  /** What is reserved for an entry. */
  #take(index: number): number | undefined {
    for (const window of this.#windows) {
      const at = index - window.first;
      if (at < 0 || at >= window.run.length || window.used[at] === 1) continue;
      window.used[at] = 1;
      if (--window.left === 0) this.#windows.splice(this.#windows.indexOf(window), 1);
      return window.run.cluster + at;
    }
    return undefined;
  }

  /** From now on a run is reserved for the entries from `first` on. @returns the cluster of one of them */
  #open(index: number, first: number, run: Run): number {
    const known = this.#take(index);
    if (known !== undefined) {
      this.#file.core.space.giveBack(run); // somebody else was faster
      return known;
    }
    this.#windows.push({ first, run, used: new Uint8Array(run.length), left: run.length });
    if (this.#windows.length > WINDOWS_MAX) this.#giveBack(this.#windows.shift() as Window);
    return this.#take(index) as number;
  }

  /** Everything that is reserved and not in use goes back. */
  giveBack(): void {
    for (const window of this.#windows.splice(0)) this.#giveBack(window);
  }

  #giveBack({ run, used }: Window): void {
    for (let at = used.indexOf(0); at >= 0; ) {
      const end = used.indexOf(1, at);
      const length = (end < 0 ? run.length : end) - at;
      this.#file.core.space.giveBack({ cluster: run.cluster + at, length });
      at = end < 0 ? end : used.indexOf(0, end);
    }
  }

  /** Clusters of a window: more for a file that has more, or may get more. */
  #windowSize(): number {
    const { size, clusters } = this.#file;
    const wanted = Math.max(clusters, size / CLUSTER / WINDOWS_OF_SIZE);
    let window = WINDOW_MIN;
    while (window < SEGMENT && window < wanted) window *= 2;
    return window;
  }

  async #lookAround(index: number): Promise<Surroundings> {
    const { core, block } = this.#file;
    const here = await readEntryPlace(core.metadata, block, index);
    const before = index > 0 ? await readEntryPlace(core.metadata, block, index - 1) : undefined;
    const size = this.#windowSize();
    // what follows on something will go on; what begins somewhere may have begun in the middle
    const follows = hasOwn(neighbour(before, block, 0));
    let from = follows ? index : index - (index % size);
    let end = from + size;
    const places: number[] = [];
    for (let distance = 1; distance <= SEGMENT; distance++) {
      for (const direction of [-1, 1] as const) {
        const entry =
          direction < 0 ? neighbour(before, block, 1 - distance) : neighbour(here, block, distance);
        const cluster = entry ? entryCluster(entry.block.view, entry.offset) : 0;
        if (cluster === 0) continue;
        const place = cluster - direction * distance;
        if (places.length < PLACES_MAX && !places.includes(place)) places.push(place);
        if (!hasOwn(entry)) continue;
        if (direction < 0) from = Math.max(from, index - distance + 1);
        else end = Math.min(end, index + distance);
      }
    }
    return { places, from, end };
  }
}

/** The entry that lies so many behind another one in the same block. */
function neighbour(place: EntryPlace | undefined, inode: Block, behind: number): EntryPlace | undefined {
  if (!place) return undefined;
  const isRoot = place.block === inode;
  const start = isRoot ? INODE_AT.payload : TREE_AT.entries;
  const offset = place.offset + behind * 8;
  const isThere = offset >= start && offset < start + (isRoot ? ROOT_ENTRIES : TREE_ENTRIES) * 8;
  return isThere ? { block: place.block, offset } : undefined;
}

/** Whether an entry has a cluster that nobody else has, as far as its mark tells. */
function hasOwn(entry: EntryPlace | undefined): boolean {
  if (!entry) return false;
  const { view } = entry.block;
  return entryCluster(view, entry.offset) !== 0 && !entryShared(view, entry.offset);
}
