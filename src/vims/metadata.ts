/**
 * The metadata of an attached volume: blocks in memory, operations that change several of them at one instant, and
 * transactions that make operations durable.
 *
 * Operations come one after the other. Each joins the running transaction; a commit takes that as a whole: it flushes
 * the data that was written before, writes the record, and flushes that. So whatever is durable of the metadata finds
 * its data durable too, and after a crash the volume is as it was after some operation.
 *
 * Invariants:
 * - A block is changed within an operation only, after `edit` kept what it was: an operation that fails leaves nothing.
 * - What is dirty or only in the journal stays in memory; what is written to its place is the committed image.
 * - Clusters that an operation took from a file are given away again, or written in place by the one file that still
 *   has them, only after the commit of that operation.
 * - After a failed commit nothing is changed any more.
 */
import { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { FlushQueue } from '../device/flush-queue.ts';
import { Block, blockBytes, seal } from './block.ts';
import { BlockCache } from './block-cache.ts';
import type { DeviceSet } from './device-set.ts';
import { BLOCK } from './geometry.ts';
import { type Image, Journal } from './journal.ts';
import type { BlockTypeName } from './layout.ts';
import { Operation } from './operation.ts';
import { Turn } from './turn.ts';

/** Parts of the ring that one operation may fill, and a transaction before its last operation: it must hold both. */
const OPERATION_PART = 2;
const TRANSACTION_PART = 4;
/** Numbers of inodes that a transaction has for itself; when half of them are used, it is full. */
const BIRTHS_STEP = 4096;
const BIRTHS_MAX: number = BIRTHS_STEP / 2;

/** Asked at the next commit for what it knows and has not written to its block: size and time of an open file. */
export type LateChange = (operation: Operation) => void;

/** Clusters that files do not refer to any more, or fewer files. */
export interface LeftClusters {
  readonly freed: number[];
  readonly unshared: number[];
}

export class Metadata {
  readonly devices: DeviceSet;
  readonly volume: string;
  readonly #journal: Journal | undefined;
  readonly #cache: BlockCache;
  readonly #turn = new Turn();
  readonly #late = new Set<LateChange>();
  readonly #flushes: FlushQueue;
  readonly #running = new Set<Block>();
  /** Images on their way into the journal. */
  #committing: ReadonlySet<number> = new Set();
  /** Committed images that are not in their places yet. */
  readonly #awaiting = new Map<number, Uint8Array>();
  /** Clusters that operations of the running transaction took from files. */
  #left: LeftClusters = { freed: [], unshared: [] };
  #releasing: Promise<void> = Promise.resolve();
  readonly #release: (clusters: LeftClusters) => void;
  #sequence: number;
  /** Inodes that operations of the running transaction made. */
  #births = 0;
  /** The commit that has taken its images. */
  #writing: Promise<void> = Promise.resolve();
  #failure: VimgError | undefined;

  /**
   * @param journal undefined for a volume that is only read
   * @param sequence number of the last transaction
   * @param release gets the clusters whose leaving is durable, when nothing is under way in them any more
   */
  constructor(
    devices: DeviceSet,
    volume: string,
    journal: Journal | undefined,
    sequence: number,
    release: (clusters: LeftClusters) => void,
  ) {
    this.devices = devices;
    this.volume = volume;
    const isNeeded = (address: number): boolean =>
      this.#awaiting.has(address) || this.#committing.has(address);
    this.#cache = new BlockCache(devices, volume, isNeeded);
    this.#journal = journal;
    this.#sequence = sequence;
    this.#release = release;
    this.#flushes = new FlushQueue(() => this.#commit(), journal !== undefined);
  }

  /** A number that no other inode has or will have. */
  #nextBirth(): number {
    return (this.#sequence + 1) * BIRTHS_STEP + this.#births++;
  }

  /** Whether a commit failed: nothing is changed any more. */
  get failed(): boolean {
    return this.#failure !== undefined;
  }

  get readOnly(): boolean {
    return this.#journal === undefined;
  }

  /** Puts blocks over what is on the devices: those of a journal that cannot be replayed by who only reads. */
  overlay(images: ReadonlyMap<number, Uint8Array>): void {
    for (const [address, bytes] of images) {
      this.#cache.blocks.set(address, new Block(address, bytes));
      this.#awaiting.set(address, bytes);
    }
  }

  /** The block, when it is in memory. Not checked for what it is. */
  peek(address: number): Block | undefined {
    return this.#cache.peek(address);
  }

  /**
   * Keeps a block in memory from now on, until its `pins` are taken back. It was read since the last operation; should
   * it have been let go of since, what others have read or will read is the same one.
   */
  pin(block: Block): Block {
    const kept = this.#cache.blocks.get(block.address) ?? block;
    this.#cache.blocks.set(block.address, kept);
    kept.pins++;
    return kept;
  }

  /** @throws VimgError `CORRUPT` when the block is not what it must be, `IO` */
  read(type: BlockTypeName, address: number, owner?: number): MaybePromise<Block> {
    return this.#cache.read(type, address, owner);
  }

  /** Runs one operation, alone. What it changed is undone when it fails. @throws what `work` throws */
  async change<T>(work: (operation: Operation) => MaybePromise<T>): Promise<T> {
    if (!this.#journal) throw new VimgError('READ_ONLY', 'The volume is attached for reading only');
    const most = this.#journal.capacity / TRANSACTION_PART;
    for (;;) {
      let full = false;
      const result = await this.#turn.take(() => {
        full = this.#running.size > most || this.#births >= BIRTHS_MAX;
        return full ? undefined : this.#operate(work);
      });
      if (!full) return result as T;
      await this.flush();
    }
  }

  async #operate<T>(work: (operation: Operation) => MaybePromise<T>): Promise<T> {
    if (this.#failure) throw this.#failure;
    const operation = new Operation(
      this.#cache.blocks,
      this.#running,
      (type, address, owner) => this.read(type, address, owner),
      (type, address, owner) => new Block(address, blockBytes(type, this.volume, address, owner)),
      () => this.#nextBirth(),
      (this.#journal as Journal).capacity / OPERATION_PART,
    );
    this.#cache.held = true;
    try {
      const working = work(operation);
      const result = isPromise(working) ? await working : working;
      this.#left.freed.push(...operation.freed);
      this.#left.unshared.push(...operation.unshared);
      this.#flushes.wrote();
      return result;
    } catch (error) {
      operation.undoAll();
      throw error;
    } finally {
      this.#cache.held = false;
      this.#cache.sweep();
    }
  }

  /** Reads what operations change in several steps, between two of them. */
  look<T>(work: () => Promise<T>): Promise<T> {
    return this.#turn.take(work);
  }

  /** Asks for a change when the next commit comes, once. */
  addLate(change: LateChange): void {
    this.#late.add(change);
    this.#flushes.wrote();
  }

  removeLate(change: LateChange): void {
    this.#late.delete(change);
  }

  /** Says that data was written to the devices: the next flush has something to do. */
  wrote(): void {
    this.#flushes.wrote();
  }

  /** Makes every operation and every write that ended before durable. After a failure every later one fails too. */
  flush(): MaybePromise<void> {
    return this.#flushes.request();
  }

  /** Ends when what files left in durable operations can be given away again. */
  async released(): Promise<void> {
    await this.#releasing;
  }

  async #commit(): Promise<void> {
    const late = [...this.#late];
    do await this.#commitSome(late);
    while (late.length > 0);
  }

  /** Commits the running transaction, and of the late changes as many as its record holds. */
  async #commitSome(late: LateChange[]): Promise<void> {
    if (this.#failure) throw this.#failure;
    const journal = this.#journal as Journal;
    const { images, left } = await this.#turn.take(() => this.#takeImages(late, journal.capacity));
    try {
      this.#writing = this.#write(journal, images);
      await this.#writing;
    } catch (error) {
      this.#failure = new VimgError('IO', 'The volume could not be written; nothing more is changed on it', {
        op: 'commit',
        cause: error,
        hint: 'what was flushed before is there: detach it, mend the storage, attach it again',
      });
      throw this.#failure;
    }
    if (left.freed.length > 0 || left.unshared.length > 0) {
      this.#releasing = this.#releasing.then(() => this.devices.drained()).then(() => this.#release(left));
    }
  }

  /** The running transaction as it is now, sealed; what comes from now on belongs to the next. */
  #takeImages(late: LateChange[], capacity: number): { images: Image[]; left: LeftClusters } {
    const operation = new Operation(
      this.#cache.blocks,
      this.#running,
      (type, address, owner) => this.read(type, address, owner),
      () => {
        throw new TypeError('a late change makes no block');
      },
      () => this.#nextBirth(),
    );
    while (late.length > 0 && this.#running.size < capacity / OPERATION_PART) {
      const change = late.pop() as LateChange;
      if (this.#late.delete(change)) change(operation);
    }
    const left = this.#left;
    this.#left = { freed: [], unshared: [] };
    if (this.#running.size === 0) return { images: [], left };
    const sequence = ++this.#sequence;
    this.#births = 0;
    const all = new Uint8Array(this.#running.size * BLOCK);
    const images: Image[] = [];
    for (const block of this.#running) {
      seal(block.bytes, sequence);
      const bytes = all.subarray(images.length * BLOCK, (images.length + 1) * BLOCK);
      bytes.set(block.bytes);
      images.push({ address: block.address, bytes });
      block.dirty = false;
    }
    this.#running.clear();
    this.#committing = new Set(images.map(({ address }) => address));
    return { images, left };
  }

  /** Data first, then the record. */
  async #write(journal: Journal, images: readonly Image[]): Promise<void> {
    await this.devices.flush();
    if (images.length > 0) await this.#append(journal, images);
  }

  async #append(journal: Journal, images: readonly Image[]): Promise<void> {
    const sequence = this.#sequence;
    if (Journal.recordBlocks(images.length) > journal.room) await this.#checkpoint(journal, sequence);
    await journal.append(sequence, images);
    for (const { address, bytes } of images) this.#awaiting.set(address, bytes);
    this.#committing = new Set();
  }

  /** Writes committed images to their places, so that the journal can begin anew with transaction `next`. */
  async #checkpoint(journal: Journal, next: number): Promise<void> {
    const addresses = [...this.#awaiting.keys()].sort((one, other) => one - other);
    for (const address of addresses) {
      await this.devices.writeBlocks(this.#awaiting.get(address) as Uint8Array, address);
    }
    await this.devices.flush();
    await journal.clear(next);
    this.#awaiting.clear();
  }

  /**
   * Runs `work` while all metadata is in its places on the devices and nobody changes any: what changes none goes on.
   *
   * @throws VimgError `IO` when it could not be written
   */
  async atRest<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      await this.flush();
      let rested = false;
      const result = await this.#turn.take(async () => {
        await this.#writing;
        if (this.#running.size > 0) return undefined;
        rested = true;
        if (this.#journal) await this.#checkpoint(this.#journal, this.#sequence + 1);
        return work();
      });
      if (rested) return result as T;
    }
  }

  /** Makes everything durable and the journal empty. Nothing may be changed at the same time. */
  async settle(): Promise<void> {
    await this.flush();
    const journal = this.#journal;
    if (!journal) return;
    await this.#checkpoint(journal, this.#sequence + 1);
    await this.#releasing;
  }
}
