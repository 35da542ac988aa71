/** Who takes down what a walk over all files finds to be in use. */
import type { Block } from './block.ts';
import { shownPath } from './check-findings.ts';
import type { SpaceUnderCheck } from './check-space.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockOnDevice,
  CLUSTER,
  clusterOfBlock,
  clusterOnDevice,
  deviceOfCluster,
  SYSTEM_CLUSTERS,
} from './geometry.ts';

/** A file or folder that something belongs to. */
export interface Owner {
  /** Inside the volume: `vm1/root.vvd`. */
  readonly path: string;
  readonly kind: 'file' | 'folder';
}

export interface Usage {
  /**
   * A metadata block is in use by `owner`: the entries `first` to `first + count − 1` are in it or below it, all of them
   * when `count` is 0.
   *
   * @returns `again` for one that was told of before, or why there can be none
   */
  block(address: number, owner: Owner, first: number, count: number): 'new' | 'again' | { problem: string };
  /** An entry of a file leads to a cluster. @returns why it must not, or undefined */
  cluster(
    cluster: number,
    shared: boolean,
    owner: Owner,
    index: number,
    block: Block,
    offset: number,
  ): string | undefined;
}

/** Counts what is in use, in the groups themselves. */
export class SpaceUsage implements Usage {
  readonly #space: SpaceUnderCheck;
  readonly #step: () => void;

  constructor(space: SpaceUnderCheck, step: () => void) {
    this.#space = space;
    this.#step = step;
  }

  block(address: number): 'new' | 'again' | { problem: string } {
    this.#step();
    const group = this.#space.groupOfBlock(address);
    if (!group) return { problem: 'it is outside the groups that are in use' };
    const i = group.indexOf(clusterOfBlock(address));
    if (group.system.has(i)) return { problem: 'it is where a journal or a superblock is' };
    return group.takeBlock(i, blockOnDevice(address) % BLOCKS_PER_CLUSTER) ? 'new' : 'again';
  }

  cluster(cluster: number, shared: boolean): string | undefined {
    const group = this.#space.groupOfCluster(cluster);
    if (!group) return this.#outside(cluster);
    if (group.takeCluster(group.indexOf(cluster), shared)) return undefined;
    return 'leads to a cluster of metadata';
  }

  #outside(cluster: number): string {
    const device = deviceOfCluster(cluster);
    const clusters = this.#space.description.devices[device]?.clusters;
    if (clusters === undefined) return `leads to device ${device}, which the volume does not have`;
    const onDevice = clusterOnDevice(cluster);
    if (onDevice < SYSTEM_CLUSTERS) return 'leads to the superblocks of a device';
    return onDevice < clusters ? 'leads to a group that is not in use' : 'leads behind the end of a device';
  }
}

/** The bytes of a file that some entries stand for, or the folder. */
export function shownRange({ path, kind }: Owner, first: number, count: number): string {
  if (count === 0 && kind === 'file') return shownPath(path);
  if (kind === 'folder') return path === '' ? shownPath(path) : `the folder ${shownPath(path)}`;
  return `${shownPath(path)}, bytes ${first * CLUSTER} to ${(first + count) * CLUSTER - 1}`;
}
