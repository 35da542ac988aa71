/**
 * Blocks whose mapping is about to change: a place was made and its data is being written.
 *
 * Whoever wants to change the mapping of such a block waits here. Writes that complete in one tick never meet.
 */
import { invariant } from '../../src/base/errors.ts';
import type { MetadataPage } from './page-cache.ts';

export interface BusyBlocks {
  readonly first: number;
  readonly count: number;
  /** Kept in memory while the blocks are busy. */
  readonly page: MetadataPage;
  waiters: (() => void)[] | undefined;
}

export class BlockGate {
  readonly #busy = new Map<number, BusyBlocks>();

  get size(): number {
    return this.#busy.size;
  }

  /** The table pages of all busy blocks. */
  pages(): Set<MetadataPage> {
    const pages = new Set<MetadataPage>();
    for (const { page } of this.#busy.values()) pages.add(page);
    return pages;
  }

  isBusy(block: number): boolean {
    return this.#busy.size > 0 && this.#busy.has(block);
  }

  /** Ends when the block is not busy with what it is busy with now. */
  wait(block: number): Promise<void> {
    const busy = this.#busy.get(block);
    if (!busy) return Promise.resolve();
    return new Promise((resolve) => {
      (busy.waiters ??= []).push(resolve);
    });
  }

  /** Ends when any of the busy blocks is free. */
  waitAny(): Promise<void> {
    const [first] = this.#busy.keys();
    return first === undefined ? Promise.resolve() : this.wait(first);
  }

  enter(first: number, count: number, page: MetadataPage): void {
    const busy: BusyBlocks = { first, count, page, waiters: undefined };
    page.pins++;
    for (let block = first; block < first + count; block++) {
      invariant(!this.#busy.has(block), 'a block is made busy once');
      this.#busy.set(block, busy);
    }
  }

  /** The blocks entered with `first`. */
  leave(first: number): BusyBlocks {
    const busy = this.#busy.get(first);
    invariant(busy !== undefined && busy.first === first, 'busy blocks are left as they were entered');
    for (let block = first; block < first + busy.count; block++) this.#busy.delete(block);
    busy.page.pins--;
    if (busy.waiters) for (const resolve of busy.waiters) resolve();
    return busy;
  }
}
