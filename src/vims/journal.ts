/**
 * The journal: a ring of blocks in which each transaction is a record of whole blocks, one or more descriptors that
 * name them and then their images, all with the transaction's number as their generation.
 *
 *     block 0: header    blocks 1 … n−1: the ring   … [descriptor][image][image]…[descriptor][image]… (free) …
 *
 * A record counts when every descriptor and every image of it is there with its own checksum, place and generation:
 * so one write and one flush commit it, in whatever order the medium takes its sectors.
 *
 * Invariants:
 * - Records are appended one at a time: at most the last one is incomplete after a crash. Its number is not used again,
 *   so that what is left of it is never taken for part of another.
 * - The header moves on only after everything in front of it was written to its place and flushed.
 */
import { invariant, VimgError } from '../base/errors.ts';
import {
  Block,
  type BlockExpectation,
  blockBytes,
  blockProblem,
  damaged,
  generationOf,
  getU64,
  seal,
  sealProblem,
  setU64,
  uuidBytes,
} from './block.ts';
import type { DeviceSet } from './device-set.ts';
import { BLOCK, BLOCKS_PER_CLUSTER, firstBlockOf } from './geometry.ts';
import { AT, DESCRIPTOR_ADDRESSES, DESCRIPTOR_AT, HEADER, journalHeaderLayout } from './layout.ts';

/** Where a node's journal is. */
export interface JournalPlace {
  /** Cluster address. */
  readonly cluster: number;
  readonly clusters: number;
}

/** A block as a transaction left it. */
export interface Image {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** What the journal of a volume that was not left in order brings. */
export interface Replay {
  /** The last image of each block. */
  readonly images: ReadonlyMap<number, Uint8Array>;
  /** Number of the last complete record; that of the header less one when there is none. */
  readonly sequence: number;
  readonly records: number;
}

/** Fewer clusters would not hold the largest operation. */
const JOURNAL_CLUSTERS_MIN = 4;
const JOURNAL_CLUSTERS_MAX = 64;

export class Journal {
  readonly #devices: DeviceSet;
  readonly #volume: string;
  readonly #uuid: Uint8Array;
  readonly #start: number;
  readonly #blocks: number;
  readonly #header: Block;
  /** The next record goes here. */
  #head = 1;
  /** Blocks in use, from the header's position on. */
  #used = 0;

  private constructor(devices: DeviceSet, volume: string, place: JournalPlace, header: Uint8Array) {
    this.#devices = devices;
    this.#volume = volume;
    this.#uuid = uuidBytes(volume);
    this.#start = firstBlockOf(place.cluster);
    this.#blocks = place.clusters * BLOCKS_PER_CLUSTER;
    this.#header = new Block(this.#start, header);
  }

  /** @throws VimgError `CORRUPT` when the header is not what it must be */
  static async open(devices: DeviceSet, volume: string, place: JournalPlace): Promise<Journal> {
    const bytes = new Uint8Array(BLOCK);
    const address = firstBlockOf(place.cluster);
    await devices.readBlock(bytes, address);
    const expected: BlockExpectation = { type: 'journalHeader', volume: uuidBytes(volume), address };
    const problem = blockProblem(bytes, expected);
    if (problem) throw damaged('The header of the journal', address, problem);
    const { position, blocks } = journalHeaderLayout.decode(bytes, HEADER);
    if (blocks !== place.clusters * BLOCKS_PER_CLUSTER || position < 1 || position >= blocks) {
      throw damaged('The header of the journal', address, 'it does not fit the journal');
    }
    return new Journal(devices, volume, place, bytes);
  }

  /** Writes an empty journal; whatever was there counts no more. The caller flushes. */
  static async format(devices: DeviceSet, volume: string, place: JournalPlace): Promise<void> {
    const address = firstBlockOf(place.cluster);
    const header = blockBytes('journalHeader', volume, address);
    const blocks = place.clusters * BLOCKS_PER_CLUSTER;
    journalHeaderLayout.encode({ sequence: 1, position: 1, blocks }, header, HEADER);
    seal(header, 0);
    // really written, so that thin storage below has room for every record from the start
    const zeroes = new Uint8Array(BLOCKS_PER_CLUSTER * BLOCK);
    for (let i = 0; i < place.clusters; i++) await devices.write(zeroes, place.cluster + i, 0);
    await devices.writeBlocks(header, address);
  }

  /** How many clusters a journal gets: by those of the volume, as far as the group that it lies in has room. */
  static clustersFor(volumeClusters: number, groupClusters: number): number {
    const wanted = Math.floor(volumeClusters / 1024);
    const most = Math.min(JOURNAL_CLUSTERS_MAX, Math.floor(groupClusters / 16));
    return Math.max(JOURNAL_CLUSTERS_MIN, Math.min(most, wanted));
  }

  /** Blocks that a record of so many images takes. */
  static recordBlocks(images: number): number {
    return images + Math.ceil(images / DESCRIPTOR_ADDRESSES);
  }

  get capacity(): number {
    return this.#blocks - 1;
  }

  /** Blocks that records may still take. */
  get room(): number {
    return this.capacity - this.#used;
  }

  /** Reads all complete records. */
  async read(): Promise<Replay> {
    const header = journalHeaderLayout.decode(this.#header.bytes, HEADER);
    const images = new Map<number, Uint8Array>();
    let position = header.position;
    let sequence = header.sequence;
    let used = 0;
    let records = 0;
    for (;;) {
      const record = await this.#readRecord(position, sequence, this.capacity - used);
      if (!record) break;
      for (const { address, bytes } of record) images.set(address, bytes);
      const length = Journal.recordBlocks(record.length);
      position = this.#after(position, length);
      used += length;
      sequence++;
      records++;
    }
    return { images, sequence: sequence - 1, records };
  }

  /** The record at a position, or undefined when there is none that is complete. */
  async #readRecord(position: number, sequence: number, room: number): Promise<Image[] | undefined> {
    const first = await this.#readDescriptor(position, sequence);
    if (!first) return undefined;
    const count = first.view.getUint32(DESCRIPTOR_AT.images, true);
    if (count === 0 || Journal.recordBlocks(count) > room) return undefined;
    const descriptors = [first];
    while (descriptors.length * DESCRIPTOR_ADDRESSES < count) {
      const next = await this.#readDescriptor(this.#after(position, descriptors.length), sequence);
      if (!next || next.view.getUint32(DESCRIPTOR_AT.images, true) !== count) return undefined;
      descriptors.push(next);
    }
    const images: Image[] = [];
    for (let i = 0; i < count; i++) {
      const descriptor = descriptors[Math.floor(i / DESCRIPTOR_ADDRESSES)] as Block;
      const at = DESCRIPTOR_AT.addresses + (i % DESCRIPTOR_ADDRESSES) * 8;
      const address = getU64(descriptor.view, at);
      const bytes = new Uint8Array(BLOCK);
      await this.#devices.readBlock(bytes, this.#start + this.#after(position, descriptors.length + i));
      if (sealProblem(bytes, this.#uuid) || generationOf(bytes) !== sequence) return undefined;
      if (getU64(new DataView(bytes.buffer), AT.address) !== address) return undefined;
      images.push({ address, bytes });
    }
    return images;
  }

  async #readDescriptor(position: number, sequence: number): Promise<Block | undefined> {
    const address = this.#start + position;
    const bytes = new Uint8Array(BLOCK);
    await this.#devices.readBlock(bytes, address);
    if (blockProblem(bytes, { type: 'journalDescriptor', volume: this.#uuid, address })) return undefined;
    return generationOf(bytes) === sequence ? new Block(address, bytes) : undefined;
  }

  /**
   * Appends a record of sealed blocks, and flushes. It is durable when this resolves; when it fails, it may be.
   *
   * @throws VimgError `NO_SPACE` with nothing written when there is no room: a checkpoint makes some
   */
  async append(sequence: number, images: readonly Image[]): Promise<void> {
    const length = Journal.recordBlocks(images.length);
    if (length > this.room) throw new VimgError('NO_SPACE', 'The journal has no room for the record');
    const record = new Uint8Array(length * BLOCK);
    const descriptors = length - images.length;
    for (let i = 0; i < descriptors; i++) {
      const address = this.#start + this.#after(this.#head, i);
      record.set(this.#descriptor(address, sequence, images, i * DESCRIPTOR_ADDRESSES), i * BLOCK);
    }
    for (const [i, { bytes }] of images.entries()) record.set(bytes, (descriptors + i) * BLOCK);
    const before = Math.min(length, this.#blocks - this.#head);
    await this.#devices.writeBlocks(record.subarray(0, before * BLOCK), this.#start + this.#head);
    if (before < length) await this.#devices.writeBlocks(record.subarray(before * BLOCK), this.#start + 1);
    await this.#devices.flush();
    this.#head = this.#after(this.#head, length);
    this.#used += length;
  }

  #descriptor(address: number, sequence: number, images: readonly Image[], first: number): Uint8Array {
    const block = new Block(address, blockBytes('journalDescriptor', this.#volume, address));
    block.view.setUint32(DESCRIPTOR_AT.images, images.length, true);
    block.view.setUint32(DESCRIPTOR_AT.first, first, true);
    for (const [i, image] of images.slice(first, first + DESCRIPTOR_ADDRESSES).entries()) {
      setU64(block.view, DESCRIPTOR_AT.addresses + i * 8, image.address);
    }
    seal(block.bytes, sequence);
    return block.bytes;
  }

  /** Says that nothing needs replaying: all records were written to their places and flushed. Durable when it resolves. */
  async clear(nextSequence: number): Promise<void> {
    const header = this.#header.bytes;
    invariant(this.#head >= 1 && this.#head < this.#blocks, 'the journal begins inside itself');
    journalHeaderLayout.encode(
      { sequence: nextSequence, position: this.#head, blocks: this.#blocks },
      header,
      HEADER,
    );
    seal(header, nextSequence);
    await this.#devices.writeBlocks(header, this.#start);
    await this.#devices.flush();
    this.#used = 0;
  }

  #after(position: number, blocks: number): number {
    return ((position - 1 + blocks) % (this.#blocks - 1)) + 1;
  }
}

/** Writes what a replay brings to its places, unless something newer is there. Flushed when it resolves. */
export async function applyReplay(devices: DeviceSet, volume: string, replay: Replay): Promise<void> {
  const uuid = uuidBytes(volume);
  const there = new Uint8Array(BLOCK);
  for (const address of [...replay.images.keys()].sort((one, other) => one - other)) {
    const image = replay.images.get(address) as Uint8Array;
    await devices.readBlock(there, address);
    if (!sealProblem(there, uuid) && generationOf(there) > generationOf(image)) continue;
    await devices.writeBlocks(image, address);
  }
  await devices.flush();
}
