/** How many files use a cluster, and whether one of them may write to it in place. */
import { VimgError } from '../base/errors.ts';
import { COUNT_MAX } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { Operation } from './operation.ts';
import type { Space } from './space.ts';

export class ClusterCounts {
  readonly #metadata: Metadata;
  readonly #space: Space;
  /** Clusters that files left which others still have, until that is durable: how many times. */
  readonly #leaving = new Map<number, number>();

  constructor(metadata: Metadata, space: Space) {
    this.#metadata = metadata;
    this.#space = space;
  }

  /** A reserved cluster is in use by one file from now on. */
  async use(operation: Operation, cluster: number): Promise<void> {
    const group = await this.#space.groupOfCluster(cluster);
    await group.setCount(operation, cluster, 1, -1);
  }

  /** Files that use a cluster. @throws VimgError `CORRUPT` when it is none of files */
  async #count(cluster: number): Promise<number> {
    const group = await this.#space.groupOfCluster(cluster);
    const count = await group.count(cluster);
    if (count >= 1 && count <= COUNT_MAX) return count;
    throw new VimgError('CORRUPT', `A file leads to cluster ${cluster}, which belongs to no file`, {
      hint: '`vimg datastore check NAME` shows what it touches',
    });
  }

  /** One more file uses a cluster. @throws VimgError `LIMIT` when too many do */
  async share(operation: Operation, cluster: number): Promise<void> {
    const count = await this.#count(cluster);
    if (count === COUNT_MAX) throw new VimgError('LIMIT', `${COUNT_MAX} files share a cluster already`);
    const group = await this.#space.groupOfCluster(cluster);
    await group.setCount(operation, cluster, count + 1, 0);
  }

  /** One file less uses a cluster. */
  async drop(operation: Operation, cluster: number): Promise<void> {
    const count = await this.#count(cluster);
    const group = await this.#space.groupOfCluster(cluster);
    await group.setCount(operation, cluster, count - 1, count === 1 ? 1 : 0);
    if (count === 1) {
      operation.freed.push(cluster);
      return;
    }
    operation.unshared.push(cluster);
    this.#leaving.set(cluster, (this.#leaving.get(cluster) ?? 0) + 1);
    operation.undo(() => this.settle([cluster]));
  }

  /** That files left these is durable now, or did not happen. */
  settle(clusters: readonly number[]): void {
    for (const cluster of clusters) {
      const times = this.#leaving.get(cluster) ?? 0;
      if (times > 1) this.#leaving.set(cluster, times - 1);
      else this.#leaving.delete(cluster);
    }
  }

  /**
   * Whether one file alone has a cluster that was shared. Waits until that is durable: after a crash before, another
   * file would have it too.
   */
  async ownedAlone(cluster: number): Promise<boolean> {
    for (;;) {
      if ((await this.#count(cluster)) > 1) return false;
      if (!this.#leaving.has(cluster)) return true;
      await this.#metadata.flush();
      await this.#metadata.released();
    }
  }
}
