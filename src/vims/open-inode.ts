/**
 * A file of the volume while somebody has it open: one for all who do.
 *
 * Its block stays in memory. Size and time are kept here and written to the block when a commit comes; clusters are
 * reserved for it ahead, so that it has few runs.
 */
import { PendingWork } from '../device/pending-work.ts';
import { type Block, getU64, setU64 } from './block.ts';
import { nowNs } from './inode.ts';
import { CONTENT, INODE_AT } from './layout.ts';
import type { Operation } from './operation.ts';
import { Placement } from './placement.ts';
import { RangeGate } from './range-gate.ts';
import type { VolumeCore } from './volume-core.ts';

/** A change that moves the end of the file, from where it was. */
export interface Growth {
  readonly start: number;
  readonly done: Promise<void>;
}

/** Bytes that are being zeroed. */
export interface ZeroedTail {
  readonly start: number;
  readonly end: number;
  readonly done: Promise<void>;
}

export class OpenInode {
  readonly core: VolumeCore;
  readonly block: Block;
  readonly gate: RangeGate = new RangeGate();
  readonly writes: PendingWork = new PendingWork();
  /** Handles that are open. */
  users = 0;
  /** Bytes. */
  size: number;
  /** Where the furthest write ends that was begun. */
  issuedEnd: number;
  /** Changes under way that the file grows with. */
  growing = 0;
  /** A change failed that the file would have grown with: there may be data behind its end. */
  untidy = false;
  /** Parts behind the end of the file that are being zeroed: who writes there waits. */
  readonly tails: Set<ZeroedTail> = new Set<ZeroedTail>();
  /** What the end moves with that is under way, or failed while others were. */
  readonly growths: Set<Growth> = new Set<Growth>();
  /** While it is being copied nobody writes. */
  frozen: Promise<void> | undefined;
  /** The content changed since `#modifiedNs` was set. */
  #touched = false;
  /** Somebody may have written that value down: the next one must be on disk before a flush ends. */
  #observed = true;
  #timeIsDue = false;
  #modifiedNs: bigint;
  readonly #placement: Placement;
  readonly #late = (operation: Operation): void => this.#writeAttributes(operation);

  constructor(core: VolumeCore, block: Block) {
    this.core = core;
    this.block = core.metadata.pin(block);
    const { view } = this.block;
    this.size = getU64(view, INODE_AT.size);
    this.issuedEnd = this.size;
    this.#modifiedNs = view.getBigUint64(INODE_AT.modifiedNs, true);
    this.#placement = new Placement(this);
    core.space.addReserver(this);
  }

  get inline(): boolean {
    return this.block.view.getUint8(INODE_AT.content) === CONTENT.inline;
  }

  /** Clusters mapped. */
  get clusters(): number {
    return getU64(this.block.view, INODE_AT.clusters);
  }

  /** Nanoseconds since 1970: another value when the content is another. Whoever asks may write it down. */
  get modifiedNs(): bigint {
    this.#settleTime();
    this.#observed = true;
    if (this.#timeIsDue) this.core.metadata.addLate(this.#late);
    return this.#modifiedNs;
  }

  /** Gives content that changed since the last value a value of its own. */
  #settleTime(): void {
    if (!this.#touched) return;
    const now = nowNs();
    this.#modifiedNs = now > this.#modifiedNs ? now : this.#modifiedNs + 1n;
    this.#touched = false;
    this.#timeIsDue ||= this.#observed;
    this.#observed = false;
  }

  /** The content is another one now, and ends at `end` at least. */
  changed(end: number): void {
    if (!this.#touched || end > this.size) {
      this.#touched = true;
      this.core.metadata.addLate(this.#late);
    }
    if (end > this.size) this.size = end;
    this.core.metadata.wrote();
  }

  setSize(size: number): void {
    this.size = size;
    this.issuedEnd = size;
    this.changed(size);
    this.core.metadata.addLate(this.#late);
  }

  #writeAttributes(operation: Operation): void {
    const { view } = this.block;
    const sizeChanged = getU64(view, INODE_AT.size) !== this.size;
    this.#settleTime();
    if (!sizeChanged && !this.#timeIsDue) return;
    operation.edit(this.block);
    if (!this.inline) setU64(view, INODE_AT.size, this.size);
    view.setBigUint64(INODE_AT.modifiedNs, this.#modifiedNs, true);
    this.#timeIsDue = false;
  }

  /** Whether its block does not say all yet. */
  get unwritten(): boolean {
    const { view } = this.block;
    if (this.#touched || this.#modifiedNs !== view.getBigUint64(INODE_AT.modifiedNs, true)) return true;
    return !this.inline && getU64(view, INODE_AT.size) !== this.size;
  }

  /** Nobody has it open any more. */
  release(): void {
    this.giveBack();
    this.core.space.removeReserver(this);
    this.core.metadata.removeLate(this.#late);
    this.block.pins--;
  }

  /** Writes size and time into the block, as part of an operation. */
  writeAttributesNow(operation: Operation): void {
    if (this.#touched || this.#modifiedNs !== this.block.view.getBigUint64(INODE_AT.modifiedNs, true)) {
      this.#timeIsDue = true;
    }
    this.#writeAttributes(operation);
    this.core.metadata.removeLate(this.#late);
  }

  /** Reserved clusters that are not in use go back. */
  giveBack(): void {
    this.#placement.giveBack();
  }

  /** Reserves a cluster for an entry, beside those of its neighbours if it can be. @throws VimgError `NO_SPACE` */
  reserve(index: number): Promise<number> {
    return this.#placement.reserve(index);
  }
}
