/** Metadata blocks that are marked as used, and that nothing leads to: among them may be files that lost their name. */
import { getU64 } from './block.ts';
import { shownBlock, type VolumeFindings } from './check-findings.ts';
import type { BlockView } from './check-view.ts';
import { kindOf } from './inode.ts';
import { INODE_AT } from './layout.ts';

export class StrayBlocks {
  readonly #view: BlockView;
  readonly #findings: VolumeFindings;

  constructor(view: BlockView, findings: VolumeFindings) {
    this.#view = view;
    this.#findings = findings;
  }

  /** Tells of `count` blocks from `first` on. */
  async tell(first: number, count: number): Promise<void> {
    const addresses = Array.from({ length: count }, (_, i) => first + i);
    const found = await Promise.all(addresses.map((address) => this.#view.find('inode', address, address)));
    let others = 0;
    for (const { block } of found) {
      if (!block) {
        others++;
        continue;
      }
      const what =
        kindOf(block) === 'folder' ? 'a folder' : `a file of ${getU64(block.view, INODE_AT.size)} bytes`;
      this.#findings.leak(`${what} that no name leads to (${shownBlock(block.address)})`);
    }
    if (others === 0) return;
    this.#findings.leak(
      `${others} metadata blocks from ${shownBlock(first)} on are marked as used, and no file has them`,
    );
  }
}
