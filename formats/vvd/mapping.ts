/**
 * The mapping of a layer that is being written: what placing, zeroing and compressing share.
 *
 * Whoever changes a block's entry has the block in the gate or does so within one tick, with room in the next
 * transaction, and says so to the metadata.
 */
import type { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { BlockGate } from './block-gate.ts';
import { decompressBlock } from './compression.ts';
import {
  ALL_SUB_BLOCKS,
  allocatedOf,
  entryAt,
  KIND_COMPRESSED,
  KIND_DATA,
  kindOf,
  placeOf,
  setEntry,
  zeroOf,
} from './entry.ts';
import { ENTRIES, type Header, SUB_BLOCKS } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { MetadataPage } from './page-cache.ts';
import type { SpaceMap } from './space-map.ts';

export class Mapping {
  readonly file: BlockDevice;
  readonly header: Header;
  readonly metadata: Metadata;
  readonly space: SpaceMap;
  readonly gate: BlockGate = new BlockGate();
  readonly blockSize: number;
  /** Bytes of a sub-block. */
  readonly zeroUnit: number;
  readonly hasParent: boolean;

  constructor(metadata: Metadata, space: SpaceMap) {
    this.file = metadata.file;
    this.header = metadata.header;
    this.metadata = metadata;
    this.space = space;
    this.blockSize = 2 ** this.header.blockShift;
    this.zeroUnit = this.blockSize / SUB_BLOCKS;
    this.hasParent = this.header.parentPathLength > 0;
  }

  /** @throws VimgError the failure of an earlier transaction: nothing is written after it */
  throwFailure(): void {
    const failure: VimgError | undefined = this.metadata.failure;
    if (failure) throw failure;
  }

  /**
   * Whether one block more can be changed before a transaction is needed. Most often a rough count says so; only where
   * it does not are the pages of the busy blocks counted, which most often are few, and dirty already.
   */
  get hasRoom(): boolean {
    return this.metadata.hasRoom(this.gate.size + 1) || this.metadata.hasRoomBeside(this.gate.pages());
  }

  /** Ends when the next transaction has room for what is being placed. */
  async makeRoom(): Promise<void> {
    if (this.metadata.hasChanges) await this.metadata.commit();
    else await this.gate.waitAny();
  }

  /** Makes a block busy once nobody else is changing it and there is room to. @returns its table page */
  async enter(block: number): Promise<MetadataPage> {
    for (;;) {
      await this.gate.wait(block);
      if (!this.hasRoom) {
        await this.makeRoom();
        continue;
      }
      const page = await this.metadata.tableForWrite(Math.floor(block / ENTRIES));
      if (this.gate.isBusy(block) || !this.hasRoom) continue;
      this.gate.enter(block, 1, page); // in this tick: whoever waits for the promise comes later
      return page;
    }
  }

  /** Whether the entry is data with a place of its own. */
  hasPlace(view: DataView, at: number): boolean {
    return kindOf(view, at) === KIND_DATA && placeOf(view, at) !== 0;
  }

  /** The entry at `at` is about to be replaced: its place is given up. */
  freeBlock(view: DataView, at: number): void {
    const kind = kindOf(view, at);
    const place = placeOf(view, at);
    if (kind === KIND_DATA && place !== 0) this.space.free(place, this.blockSize);
    if (kind === KIND_COMPRESSED) this.space.free(place, allocatedOf(view, at));
  }

  /** Turns a compressed block into a plain one, so that parts of it can change. */
  async inflate(page: MetadataPage, block: number): Promise<void> {
    const at = entryAt(block % ENTRIES);
    const stored = new Uint8Array(allocatedOf(page.view, at));
    const checksum = zeroOf(page.view, at);
    this.gate.enter(block, 1, page);
    const { place } = this.space.takeBlocks(1);
    try {
      await this.file.pread(stored, placeOf(page.view, at));
      const plain = await decompressBlock(
        stored,
        checksum,
        this.header.compression,
        this.blockSize,
        this.file.name,
      );
      await this.file.pwrite(plain, place);
    } catch (error) {
      this.space.giveBack(place);
      this.gate.leave(block);
      throw error;
    }
    this.freeBlock(page.view, at);
    setEntry(page.view, at, KIND_DATA, place, ALL_SUB_BLOCKS, 0);
    this.space.mapped(place);
    this.metadata.changed(page);
    this.gate.leave(block);
  }
}
