/** vims.ksy against the implementation: compiled here, it must see in every volume what the implementation sees. */
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { beforeAll, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { blockBytes, seal } from '../../src/vims/block.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { DeviceSet } from '../../src/vims/device-set.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { BLOCK, blockAddress, CLUSTER, firstBlockOf } from '../../src/vims/geometry.ts';
import { type Image, Journal } from '../../src/vims/journal.ts';
import { BLOCK_TYPES, INODE_AT } from '../../src/vims/layout.ts';
import { readSlot, slotAddress } from '../../src/vims/slot.ts';
import { readVolume, superblockPlaces } from '../../src/vims/superblock.ts';
import { undoHeadLayout, undoRecordLayout } from '../../src/vims/undo-file.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { compileKsy, type KsySource } from '../ksy-compiler.ts';
import { compareBlock, compareFields } from './ksy-blocks.ts';
import { KsyWalk, systemBlocks, usedBlocks } from './ksy-walk.ts';
import type { ParsedJournal, ParsedRecord, ParsedUndoFile, ParsedVolume } from './parsed-vims.ts';
import { edit, sample } from './sample-volume.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

let parse: (source: Uint8Array | KsySource, type?: string) => ParsedVolume;
beforeAll(async () => {
  parse = await compileKsy<ParsedVolume>(new URL('../../src/vims/vims.ksy', import.meta.url));
});

/** Devices of three sizes; files that share clusters and pass from one device to the next; tables of every depth there is. */
async function fullVolume(): Promise<MemoryDevice[]> {
  const random = new SeededRandom(7);
  const devices = [MemoryDevice.create(40 * MiB), MemoryDevice.create(300 * GiB)];
  await formatVolume(devices);
  const volume = await VimsVolume.attach('ds', devices);
  const { files } = volume;
  const write = async (path: string, ...parts: readonly (readonly [offset: number, length: number])[]) => {
    const file = await files.open(path, (await files.status(path)) ? {} : { create: 'exclusive' });
    for (const [offset, length] of parts) await file.pwrite(random.fill(new Uint8Array(length)), offset);
    await file.close();
  };
  await files.makeFolder('ds:vm1');
  await write('ds:vm1/disk.vvd', [0, 36 * MiB]);
  await files.copy('ds:vm1/disk.vvd', 'ds:vm1/copy.vvd');
  await write('ds:vm1/copy.vvd', [5 * MiB + 4096, 100_000], [MiB, MiB]);
  await write('ds:vm1/sparse.raw', [0, 70_000], [600 * MiB, 5000], [2 ** 40 + 300_000, MiB]);
  await files.replace('ds:vm1/note', 'a note');
  await files.makeFolder('ds:vm1/Größe');
  await (await files.open('ds:vm1/Größe/empty', { create: 'exclusive' })).close();
  await files.makeFolder('ds:many');
  await write('ds:many/file', [0, 4096]);
  for (let i = 0; i < 5000; i++) await files.link('ds:many/file', `ds:many/${'-'.repeat(240)}${i}`);
  // takes the whole first group of a device, and of the next one a part
  const large = await files.open('ds:large', { create: 'exclusive' });
  await large.writeZeroes(0, 8100 * MiB, { keepAllocated: true });
  await large.pwrite(random.fill(new Uint8Array(5000)), 8099 * MiB);
  await large.close();
  const added = MemoryDevice.create(32 * MiB);
  await volume.addDevice(added);
  await volume.detach();
  return [...devices, added];
}

describe('vims.ksy sees what the implementation sees', () => {
  it('in every block, by name, and in every byte of files', async () => {
    const devices = await fullVolume();
    const parsed = devices.map((device) => parse(device));
    const description = await readVolume(devices);
    const types = new Set<string>();
    const used = new Map(parsed.flatMap((device) => [...usedBlocks(device)]));
    for (const [index, device] of parsed.entries()) {
      expect(device.deviceIndex).toBe(index);
      expect(device.clusters).toBe(description.devices[index]?.clusters);
      const system = systemBlocks(device);
      const superblocks = superblockPlaces(device.clusters).map((block) => blockAddress(index, block));
      const others = [blockAddress(index, 1), ...(index === 0 ? [slotAddress(0)] : [])];
      expect(new Set(system.keys())).toEqual(new Set([...superblocks, ...others]));
      for (const [address, block] of system) types.add(compareBlock(devices, address, block));
    }
    for (const [address, block] of used) types.add(compareBlock(devices, address, block));
    const journal = parsed[0]?.nodeSlots?.[0]?.journal as ParsedJournal;
    types.add(await compareJournal(devices, journal));
    const notInUse = ['heartbeat', 'eviction', 'ballot', 'journalDescriptor'];
    expect([...types, ...notInUse].sort()).toEqual(Object.keys(BLOCK_TYPES).sort());

    const forks = devices.map((device) => device.fork({ readOnly: true }));
    const walk = new KsyWalk(devices, used, await VimsVolume.attach('ds', forks));
    const first = parsed[0] as ParsedVolume;
    await walk.folder('ds:', walk.follow(first.rootFolder));
    const orphans = first.nodeSlots?.[0]?.orphans;
    expect(orphans && walk.follow(orphans)).toMatchObject({ kind: 2, entries: 0 });
    expect(parsed.map((device) => device.groups.length)).toEqual([1, 2, 0]);
    const depths = ['vm1/sparse.raw', 'many', 'vm1/disk.vvd'].map((path) => walk.depths.get(`ds:${path}`));
    expect(depths).toEqual([2, 1, 0]);
    compareSpace(parsed, walk);
  });

  it.each(['small', 'crashed'] as const)('in the %s sample', async (kind) => {
    const { devices } = await sample(kind);
    for (const device of devices.map((each) => parse(each))) {
      for (const [address, block] of [...systemBlocks(device), ...usedBlocks(device)]) {
        compareBlock(devices, address, block);
      }
      const journal = device.nodeSlots?.[0]?.journal;
      if (!journal) continue;
      await compareJournal(devices, journal);
      expect(journal.oldest.isThere).toBe(kind === 'crashed');
    }
  });

  it('in records with several descriptors, round the end of the journal', async () => {
    const device = MemoryDevice.create(32 * MiB);
    const uuid = await formatVolume([device]);
    const set = new DeviceSet([device]);
    const { journal: cluster, journalClusters: clusters } = await readSlot(set, uuid, 0);
    const journal = await Journal.open(set, uuid, { cluster, clusters });
    const append = (sequence: number, count: number): Promise<void> =>
      journal.append(sequence, imagesOf(uuid, sequence, count));
    await append(1, 600);
    await journal.clear(2);
    await append(2, 502);
    await append(3, 503);
    const parsed = parse(device).nodeSlots?.[0]?.journal as ParsedJournal;
    const replay = await compareJournal([device], parsed);
    expect(replay).toBe('journalHeader');
    const [second, third] = recordsOf(parsed);
    expect([second?.sequence, third?.sequence]).toEqual([2, 3]);
    expect([second?.descriptors.length, third?.descriptors.length]).toEqual([1, 2]);
  });

  it('in the undo file of a repair', async () => {
    const folder = await dir({ unsafeCleanup: true, prefix: 'vimg-ksy-' });
    const undoPath = join(folder.path, 'undo');
    try {
      const { devices, inodes } = await sample('small');
      edit(devices, inodes['many'] as number, (view) => view.setUint32(INODE_AT.entries, 7, true));
      edit(devices, inodes['linked'] as number, (view) => view.setUint32(INODE_AT.links, 9, true));
      const before = devices.map((device) => device.fork());
      expect((await checkVolume(devices, { undoPath })).repaired).toBe(2);
      const bytes = new Uint8Array(await readFile(undoPath));
      const { head, records } = parse(bytes, 'UndoFile') as unknown as ParsedUndoFile;
      compareFields(undoHeadLayout, head, bytes, 0, 0);
      let end = undoHeadLayout.size;
      for (const record of records) {
        compareFields(undoRecordLayout, record, bytes, end, 0);
        const there = new Uint8Array(record.bytes.length);
        before[record.device]?.pread(there, record.offset);
        expect(Buffer.compare(record.bytes, there)).toBe(0);
        end += undoRecordLayout.size + record.bytes.length;
      }
      expect(records.length).toBeGreaterThan(1);
      expect(end).toBe(bytes.length);
    } finally {
      rmSync(folder.path, { recursive: true });
    }
  });
});

/** Blocks that somebody changed, as a transaction holds them. */
function imagesOf(uuid: string, sequence: number, count: number): Image[] {
  return Array.from({ length: count }, (_, i) => {
    const address = blockAddress(0, 100_000 + sequence * 10 + i);
    const bytes = blockBytes('deviceRecord', uuid, address);
    bytes.fill(sequence, 1000);
    seal(bytes, sequence);
    return { address, bytes };
  });
}

function recordsOf({ oldest }: ParsedJournal): ParsedRecord[] {
  const records: ParsedRecord[] = [];
  for (let record = oldest; record.isThere; record = record.next as ParsedRecord) records.push(record);
  return records;
}

/** The header, all blocks of the ring, and the records that a replay takes. @returns the type of the header */
async function compareJournal(devices: readonly MemoryDevice[], found: ParsedJournal): Promise<string> {
  const { uuid } = await readVolume(devices);
  const set = new DeviceSet(devices);
  const slot = await readSlot(set, uuid, 0);
  const place = { cluster: slot.journal, clusters: slot.journalClusters };
  const start = firstBlockOf(place.cluster);
  const replay = await (await Journal.open(set, uuid, place)).read();
  const records = recordsOf(found);
  expect(records.length).toBe(replay.records);
  expect(found.oldest.sequence + records.length - 1).toBe(replay.sequence);
  const images = new Map<number, string>();
  for (const { block } of records.flatMap((record) => record.images)) {
    images.set(block.header.address, String(block.header['crc']));
  }
  const expected = [...replay.images].map(([address, bytes]): [number, string] => {
    return [address, String(new DataView(bytes.buffer, bytes.byteOffset).getUint32(60, true))];
  });
  expect(images).toEqual(new Map(expected));
  const told = records.flatMap((record) =>
    record.descriptors.flatMap(({ block }) => block.body['addresses'] as number[]),
  );
  expect(new Set(told)).toEqual(new Set(replay.images.keys()));
  expect(found.ring.length).toBe((place.clusters * CLUSTER) / BLOCK - 1);
  for (const [i, block] of found.ring.entries()) {
    if (block.header.isBlock) compareBlock(devices, start + 1 + i, block);
  }
  return compareBlock(devices, start, found.headerBlock);
}

/** What the groups say is in use is what the walk reached; what is counted is what it counted. */
function compareSpace(parsed: readonly ParsedVolume[], { reached, counts }: KsyWalk): void {
  const all = new Map<number, number>();
  for (const { deviceIndex, groups } of parsed) {
    for (const { headerBlock, clusters } of groups) {
      const start = clusters[0]?.cluster ?? 0;
      for (let i = 0; i < 5; i++) reached.add(blockAddress(deviceIndex, start * 256 + i));
      let freeBlocks = 0;
      for (const { cluster, count, isFree, isSystem, isMetadata, blocks } of clusters) {
        if (isMetadata) reached.add(blockAddress(deviceIndex, cluster * 256));
        freeBlocks += (blocks ?? []).filter(({ isUsed }) => !isUsed).length;
        if (!isFree && !isSystem && !isMetadata) all.set(deviceIndex * 2 ** 32 + cluster, count);
      }
      const freeClusters = clusters.filter(({ isFree }) => isFree).length;
      expect(headerBlock.body).toMatchObject({ freeBlocks, freeClusters });
    }
  }
  expect(all).toEqual(counts);
  const used = parsed.flatMap((device) => [...usedBlocks(device).keys()]);
  expect([...reached].sort((a, b) => a - b)).toEqual(used.sort((a, b) => a - b));
}
