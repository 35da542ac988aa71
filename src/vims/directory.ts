/**
 * Folders: which inode a name stands for.
 *
 * A few names fit into the inode. More are put into buckets by the low bits of their hash: a table of 2^n addresses
 * leads to them, and several may lead to one. A bucket that is full is divided by one bit more; when it had as many
 * bits as the table, the table is doubled first.
 *
 *     entry: inode u64, hash u32, kind u8, length of the name u8, name (UTF-8)
 */
import { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { crc32c } from '../binary/crc32c.ts';
import { type Block, damaged, getU64, setU64 } from './block.ts';
import { makeEntryPlace, prune, readEntryPlace } from './block-tree.ts';
import {
  type EntryArea,
  entriesIn,
  findIn,
  insertInto,
  removeFrom,
  roomIn,
  setInodeIn,
} from './directory-entries.ts';
import type { InodeKind } from './inode.ts';
import { BLOCK_TYPES, CONTENT, DIRECTORY_AT, INODE_AT, INODE_PAYLOAD } from './layout.ts';
import type { Metadata } from './metadata.ts';
import type { Operation } from './operation.ts';
import type { Space } from './space.ts';

/** A name in a folder. */
export interface DirectoryEntry {
  readonly name: string;
  readonly inode: number;
  readonly kind: InodeKind;
}

/** Bits of the hash that number buckets at most: names that share so many are refused, nobody has so many by chance. */
const HASH_BITS_MAX = 24;
const NAME_BYTES_MAX = 255;

/** The name as it is stored. @throws VimgError `USAGE`, `LIMIT` for what can be none */
export function nameBytes(name: string, path: string): Uint8Array {
  const bytes = Buffer.from(name, 'utf8');
  if (bytes.length > NAME_BYTES_MAX) {
    throw new VimgError('LIMIT', `A name has ${NAME_BYTES_MAX} bytes at most, this one ${bytes.length}`, {
      path,
    });
  }
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name) || bytes.toString('utf8') !== name) {
    throw new VimgError('USAGE', 'That can be no name of a file', { path });
  }
  return bytes;
}

export class Directory {
  readonly #metadata: Metadata;
  readonly #space: Space;
  readonly inode: Block;

  constructor(metadata: Metadata, space: Space, inode: Block) {
    this.#metadata = metadata;
    this.#space = space;
    this.inode = inode;
  }

  get entries(): number {
    return this.inode.view.getUint32(INODE_AT.entries, true);
  }

  get #inline(): boolean {
    return this.inode.view.getUint8(INODE_AT.content) === CONTENT.inline;
  }

  get #bits(): number {
    return this.inode.view.getUint8(INODE_AT.hashBits);
  }

  #hash(name: Uint8Array): number {
    return hashOf(this.inode, name);
  }

  /** What a name stands for. */
  async find(name: Uint8Array): Promise<DirectoryEntry | undefined> {
    const hash = this.#hash(name);
    return findIn(await this.#area(hash), hash, name);
  }

  /** All names, bucket after bucket. */
  async *list(): AsyncGenerator<DirectoryEntry> {
    if (this.#inline) {
      yield* entriesIn(this.#inlineArea());
      return;
    }
    for (let slot = 0; slot < 2 ** this.#bits; slot++) {
      const bucket = await this.#bucketAt(slot);
      if (bucket.view.getUint32(DIRECTORY_AT.pattern, true) === slot) yield* entriesIn(areaOf(bucket));
    }
  }

  /** Adds a name. Whether it is there was looked at before. @throws VimgError `NO_SPACE`, `LIMIT` */
  async insert(operation: Operation, name: Uint8Array, inode: number, kind: InodeKind): Promise<void> {
    const hash = this.#hash(name);
    let area = await this.#area(hash);
    while (!roomIn(area, name)) {
      if (this.#inline) await this.#makeTable(operation);
      else await this.#divide(operation, hash);
      area = await this.#area(hash);
    }
    operation.edit(area.block);
    insertInto(area, hash, name, inode, kind);
    this.#count(operation, 1);
  }

  /** Takes a name away. @throws VimgError `NOT_FOUND` is not its business: it must be there */
  async remove(operation: Operation, name: Uint8Array): Promise<void> {
    const hash = this.#hash(name);
    const area = await this.#area(hash);
    operation.edit(area.block);
    removeFrom(area, hash, name);
    this.#count(operation, -1);
  }

  /** Lets a name that is there stand for another file. */
  async set(operation: Operation, name: Uint8Array, inode: number): Promise<void> {
    const hash = this.#hash(name);
    const area = await this.#area(hash);
    operation.edit(area.block);
    setInodeIn(area, hash, name, inode);
    this.#touch(operation);
  }

  #count(operation: Operation, change: 1 | -1): void {
    this.#touch(operation);
    this.inode.view.setUint32(INODE_AT.entries, this.entries + change, true);
  }

  #touch(operation: Operation): void {
    operation.edit(this.inode);
    const { view } = this.inode;
    const now = BigInt(Date.now()) * 1_000_000n;
    const last = view.getBigUint64(INODE_AT.modifiedNs, true);
    view.setBigUint64(INODE_AT.modifiedNs, now > last ? now : last + 1n, true);
  }

  #inlineArea(): EntryArea {
    return inlineAreaOf(this.inode);
  }

  /** Where a name of this hash is, or would be. */
  #area(hash: number): MaybePromise<EntryArea> {
    if (this.#inline) return this.#inlineArea();
    const bucket = this.#bucketAt(slotOf(hash, this.#bits));
    return isPromise(bucket) ? bucket.then(areaOf) : areaOf(bucket);
  }

  async #bucketAt(slot: number): Promise<Block> {
    const place = await readEntryPlace(this.#metadata, this.inode, slot);
    const address = place ? getU64(place.block.view, place.offset) : 0;
    if (address === 0) throw damaged('A folder', this.inode.address, `it has no bucket ${slot}`);
    const bucket = await this.#metadata.read('directory', address, this.inode.address);
    const bits = bucket.view.getUint32(DIRECTORY_AT.bits, true);
    const pattern = bucket.view.getUint32(DIRECTORY_AT.pattern, true);
    if (bits > this.#bits || pattern !== slotOf(slot, bits)) {
      throw damaged('A bucket of a folder', address, 'it is another one');
    }
    return bucket;
  }

  /** Moves the names from the inode into a first bucket. */
  async #makeTable(operation: Operation): Promise<void> {
    const names = [...entriesIn(this.#inlineArea())];
    const bucket = await this.#makeBucket(operation, 0, 0);
    const area = areaOf(bucket);
    for (const { name, inode, kind } of names) {
      const bytes = Buffer.from(name, 'utf8');
      insertInto(area, this.#hash(bytes), bytes, inode, kind);
    }
    operation.edit(this.inode);
    this.inode.bytes.fill(0, INODE_AT.payload);
    setU64(this.inode.view, INODE_AT.size, 0);
    this.inode.view.setUint8(INODE_AT.content, CONTENT.tree);
    await this.#point(operation, 0, bucket.address);
  }

  async #makeBucket(operation: Operation, bits: number, pattern: number): Promise<Block> {
    const address = await this.#space.takeBlock(operation, this.inode.address);
    const bucket = operation.create('directory', address, this.inode.address);
    bucket.view.setUint32(DIRECTORY_AT.bits, bits, true);
    bucket.view.setUint32(DIRECTORY_AT.pattern, pattern, true);
    return bucket;
  }

  async #point(operation: Operation, slot: number, address: number): Promise<void> {
    const place = await makeEntryPlace(operation, this.#space, this.inode, slot);
    setU64(place.block.view, place.offset, address);
  }

  /** Divides the bucket of this hash by one bit more. */
  async #divide(operation: Operation, hash: number): Promise<void> {
    const bucket = await this.#bucketAt(slotOf(hash, this.#bits));
    const bits = bucket.view.getUint32(DIRECTORY_AT.bits, true);
    if (bits === this.#bits) await this.#double(operation);
    const pattern = slotOf(hash, bits);
    const other = await this.#makeBucket(operation, bits + 1, pattern + 2 ** bits);
    operation.edit(bucket);
    const names = [...entriesIn(areaOf(bucket))];
    bucket.view.setUint32(DIRECTORY_AT.bits, bits + 1, true);
    bucket.view.setUint32(DIRECTORY_AT.entries, 0, true);
    bucket.view.setUint32(DIRECTORY_AT.used, 0, true);
    bucket.bytes.fill(0, DIRECTORY_AT.payload);
    for (const { name, inode, kind } of names) {
      const bytes = Buffer.from(name, 'utf8');
      const own = this.#hash(bytes);
      insertInto(areaOf((own >>> bits) & 1 ? other : bucket), own, bytes, inode, kind);
    }
    for (let slot = pattern + 2 ** bits; slot < 2 ** this.#bits; slot += 2 ** (bits + 1)) {
      await this.#point(operation, slot, other.address);
    }
  }

  /** Doubles the table: the new half leads where the old one does. */
  async #double(operation: Operation): Promise<void> {
    const bits = this.#bits;
    if (bits === HASH_BITS_MAX) {
      throw new VimgError('LIMIT', 'The folder takes no more names like this one', {
        hint: 'make another folder, or choose another name',
      });
    }
    for (let slot = 0; slot < 2 ** bits; slot++) {
      const place = await readEntryPlace(this.#metadata, this.inode, slot);
      await this.#point(operation, slot + 2 ** bits, place ? getU64(place.block.view, place.offset) : 0);
    }
    operation.edit(this.inode);
    this.inode.view.setUint8(INODE_AT.hashBits, bits + 1);
  }

  /** Numbers of buckets that its table has; 0 without one. */
  get slots(): number {
    return this.#inline ? 0 : 2 ** this.#bits;
  }

  /** Frees the buckets of some numbers. The highest numbers come first, since the lowest of a bucket is the one it is freed with. */
  async freeSlots(operation: Operation, first: number, end: number): Promise<void> {
    for (let slot = end - 1; slot >= first; slot--) {
      const place = await readEntryPlace(this.#metadata, this.inode, slot);
      const address = place ? getU64(place.block.view, place.offset) : 0;
      if (!place || address === 0) continue;
      const bucket = await this.#metadata.read('directory', address, this.inode.address);
      if (bucket.view.getUint32(DIRECTORY_AT.pattern, true) === slot) {
        operation.discard(bucket);
        await this.#space.giveBlock(operation, address);
      }
      operation.edit(place.block);
      setU64(place.block.view, place.offset, 0);
    }
    await prune(operation, this.#space, this.inode, end - 1);
    await prune(operation, this.#space, this.inode, first);
  }
}

/** What a name is found by in a folder. */
export function hashOf(folder: Block, name: Uint8Array): number {
  return crc32c(name, folder.view.getUint32(INODE_AT.seed, true));
}

/** Where entries are in the inode of a folder. */
export function inlineAreaOf(inode: Block): EntryArea {
  return {
    block: inode,
    start: INODE_AT.payload,
    length: INODE_PAYLOAD,
    usedAt: INODE_AT.size,
    inode: true,
  };
}

/** Which bucket a hash leads to with so many bits. */
export function slotOf(hash: number, bits: number): number {
  return bits === 0 ? 0 : hash & (2 ** bits - 1);
}

/** Where entries are in a bucket. */
export function areaOf(bucket: Block): EntryArea {
  if (bucket.type !== BLOCK_TYPES.directory)
    throw damaged('A bucket', bucket.address, 'it is something else');
  const length = bucket.bytes.length - DIRECTORY_AT.payload;
  return { block: bucket, start: DIRECTORY_AT.payload, length, usedAt: DIRECTORY_AT.used, inode: false };
}
