/** A walk through a volume by vims.ksy alone, from the root folder to the bytes of files, held against the attached volume. */
import { expect } from 'vitest';
import type { MemoryDevice } from '../../src/device/memory-device.ts';
import {
  BLOCKS_PER_CLUSTER,
  blockAddress,
  CLUSTER,
  clusterOffset,
  PIECE,
  PIECES,
  SLOTS_MAX,
} from '../../src/vims/geometry.ts';
import { KIND, ROOT_ENTRIES, TREE_ENTRIES } from '../../src/vims/layout.ts';
import type { VimsVolume } from '../../src/vims/volume.ts';
import type { Parsed } from '../ksy-compiler.ts';
import type {
  ParsedBlock,
  ParsedClusterEntry,
  ParsedNames,
  ParsedPointer,
  ParsedTarget,
  ParsedVolume,
} from './parsed-vims.ts';

/** Blocks at fixed places of a device, by their address. */
export function systemBlocks(device: ParsedVolume): Map<number, ParsedBlock> {
  const found = new Map<number, ParsedBlock>();
  const add = (block: number, parsed: ParsedBlock | undefined): void => {
    if (parsed?.header.isBlock) found.set(blockAddress(device.deviceIndex, block), parsed);
  };
  expect(device.nodeSlots?.length).toBe(device.deviceIndex === 0 ? SLOTS_MAX : undefined);
  add(0, device.superblock0);
  add(1, device.deviceRecordBlock);
  add(2, device.superblock2);
  for (const { cluster, superblock } of device.backups) add(cluster * BLOCKS_PER_CLUSTER, superblock);
  for (const [slot, { heartbeat, eviction, ballot, slotBlock }] of (device.nodeSlots ?? []).entries()) {
    for (const [i, block] of [heartbeat, eviction, ballot, slotBlock].entries()) add(4 + slot * 4 + i, block);
  }
  return found;
}

/** Blocks of the metadata clusters of a device that are in use, by their address. */
export function usedBlocks(device: ParsedVolume): Map<number, ParsedBlock> {
  const found = new Map<number, ParsedBlock>();
  for (const { cluster, blocks } of device.groups.flatMap((group) => group.clusters)) {
    for (const [i, { isUsed, block }] of (blocks ?? []).entries()) {
      expect(block !== undefined).toBe(isUsed);
      if (block) found.set(blockAddress(device.deviceIndex, cluster * BLOCKS_PER_CLUSTER + i), block);
    }
  }
  return found;
}

/** Walks; what is reached must be what the volume has under the same name. */
export class KsyWalk {
  readonly #devices: readonly MemoryDevice[];
  readonly #blocks: ReadonlyMap<number, ParsedBlock>;
  readonly #volume: VimsVolume;
  /** Addresses of all blocks that were reached. */
  readonly reached: Set<number> = new Set();
  /** Entries of files, by the address of the cluster. */
  readonly counts: Map<number, number> = new Map();
  /** Of the table of each file and folder, by its path. */
  readonly depths: Map<string, unknown> = new Map();

  /** @param blocks in use on all devices */
  constructor(
    devices: readonly MemoryDevice[],
    blocks: ReadonlyMap<number, ParsedBlock>,
    volume: VimsVolume,
  ) {
    this.#devices = devices;
    this.#blocks = blocks;
    this.#volume = volume;
  }

  /** The block that an address leads to, on whatever device. */
  follow({ address, isHere, block }: ParsedTarget): Parsed {
    const found = this.#blocks.get(address) as ParsedBlock;
    expect(found?.header.address).toBe(address);
    if (isHere) expect(block?.header.address).toBe(address);
    else expect(block).toBeUndefined();
    this.reached.add(address);
    return found.body;
  }

  async folder(path: string, inode: Parsed): Promise<void> {
    this.depths.set(path, inode['depth']);
    const names = this.#namesOf(inode);
    const listed = await this.#volume.files.list(path);
    expect([...names.keys()].sort()).toEqual(listed.sort());
    for (const [name, { target, kind }] of names) {
      const child = path.endsWith(':') ? `${path}${name}` : `${path}/${name}`;
      const status = await this.#volume.files.status(child);
      expect(status?.identity.split(' ')[2]).toBe(String(target.address));
      expect(status?.kind).toBe(kind === KIND.folder ? 'folder' : 'file');
      const isNew = !this.reached.has(target.address);
      const body = this.follow(target);
      expect(body['kind']).toBe(kind);
      if (!isNew) continue;
      if (kind === KIND.folder) await this.folder(child, body);
      else await this.#file(child, body);
    }
  }

  #namesOf(inode: Parsed): Map<string, ParsedNames['names'][number]> {
    const found = new Map<string, ParsedNames['names'][number]>();
    const add = (names: ParsedNames): void => {
      for (const name of names.names) found.set(name.name, name);
    };
    if (inode['names']) add(inode['names'] as ParsedNames);
    else {
      const buckets = new Map<number, ParsedTarget>();
      for (const [, { target }] of this.#entries<ParsedPointer>(inode, 'pointers')) {
        if (target.address !== 0) buckets.set(target.address, target);
      }
      for (const target of buckets.values()) add(this.follow(target)['names'] as ParsedNames);
    }
    expect(found.size).toBe(inode['entries']);
    return found;
  }

  /** The entries of a table, with their index, down to the leaves. */
  *#entries<T>(inode: Parsed, leaf: 'pointers' | 'clusterMap'): Generator<[number, T]> {
    const depth = inode['depth'] as number;
    if (depth === 0) {
      expect((inode[leaf] as readonly T[]).length).toBe(ROOT_ENTRIES);
      yield* (inode[leaf] as readonly T[]).entries();
    } else {
      yield* this.#below<T>(inode, depth, 0, leaf);
    }
  }

  *#below<T>(
    { pointers }: Parsed,
    level: number,
    first: number,
    leaf: 'pointers' | 'clusterMap',
  ): Generator<[number, T]> {
    for (const [i, { target }] of (pointers as readonly ParsedPointer[]).entries()) {
      if (target.address === 0) continue;
      const tree = this.follow(target);
      const start = first + i * TREE_ENTRIES ** level;
      expect(tree).toMatchObject({ level: level - 1, first: start });
      if (level > 1) yield* this.#below<T>(tree, level - 1, start, leaf);
      else for (const [at, entry] of (tree[leaf] as readonly T[]).entries()) yield [start + at, entry];
    }
  }

  async #file(path: string, inode: Parsed): Promise<void> {
    this.depths.set(path, inode['depth']);
    const file = await this.#volume.files.open(path, { readOnly: true });
    try {
      const size = inode['size'] as number;
      expect(file.size).toBe(size);
      if (inode['inlineBytes']) {
        const content = new Uint8Array(size);
        await file.pread(content, 0);
        expect(Buffer.compare(content, inode['inlineBytes'] as Uint8Array)).toBe(0);
        return;
      }
      let mapped = 0;
      for (const [index, entry] of this.#entries<ParsedClusterEntry>(inode, 'clusterMap')) {
        if (entry.address === 0) continue;
        mapped++;
        this.counts.set(entry.address, (this.counts.get(entry.address) ?? 0) + 1);
        if (entry.written === 0) {
          const rest = Math.min(CLUSTER, size - index * CLUSTER);
          expect(await file.status(index * CLUSTER, rest)).toMatchObject({ length: rest, zero: true });
          continue;
        }
        const content = new Uint8Array(Math.min(CLUSTER, size - index * CLUSTER));
        await file.pread(content, index * CLUSTER);
        expect(`${path} ${index} ${this.#difference(entry, content)}`).toBe(`${path} ${index} undefined`);
      }
      expect(inode['clusters']).toBe(mapped);
    } finally {
      await file.close();
    }
  }

  /** The first piece of a cluster that is not what the file holds; undefined when all are. */
  #difference(entry: ParsedClusterEntry, content: Uint8Array): number | undefined {
    expect(entry.data !== undefined).toBe(entry.isHere);
    let { data } = entry;
    if (!data) {
      data = new Uint8Array(CLUSTER);
      this.#devices[entry.device]?.pread(data, clusterOffset(entry.address));
    }
    for (let piece = 0; piece * PIECE < content.length; piece++) {
      const found = content.subarray(piece * PIECE, (piece + 1) * PIECE);
      const isWritten = ((entry.written >>> piece) & 1) === 1;
      const there = data.subarray(piece * PIECE, piece * PIECE + found.length);
      if (Buffer.compare(found, isWritten ? there : new Uint8Array(found.length)) !== 0) return piece;
    }
    expect(entry.written).toBeLessThan(2 ** PIECES);
    return undefined;
  }
}
