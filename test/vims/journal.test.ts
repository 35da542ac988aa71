/** The journal by itself: torn sectors in any block of it, laps of the ring, and replaying more than once. */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { blockBytes, generationOf, seal } from '../../src/vims/block.ts';
import { DeviceSet } from '../../src/vims/device-set.ts';
import { BLOCK, BLOCKS_PER_CLUSTER, CLUSTER, firstBlockOf } from '../../src/vims/geometry.ts';
import { applyReplay, type Image, Journal } from '../../src/vims/journal.ts';

const UUID = '0f6b2a51-7d0c-4e0f-9a52-6c1f3f1b7a10';
const PLACE = { cluster: 5, clusters: 1 };
const HEADER_BLOCK = firstBlockOf(PLACE.cluster);
const SECTOR = 512;
/** Where the blocks belong that the records are of. */
const HOME = firstBlockOf(10);

/** An image of a block as transaction `sequence` left it. */
function image(address: number, sequence: number): Image {
  const bytes = blockBytes('inode', UUID, address, address);
  bytes.fill(sequence & 0xff, 200, 4000);
  seal(bytes, sequence);
  return { address, bytes };
}

function images(sequence: number, count: number): Image[] {
  return Array.from({ length: count }, (_, i) => image(HOME + ((sequence * 7 + i) % 300), sequence));
}

async function makeJournal(): Promise<{ memory: MemoryDevice; journal: Journal }> {
  const memory = MemoryDevice.create(32 * CLUSTER);
  const set = new DeviceSet([memory]);
  await Journal.format(set, UUID, PLACE);
  return { memory, journal: await Journal.open(set, UUID, PLACE) };
}

async function replayOf(
  memory: MemoryDevice,
): Promise<{ sequence: number; records: number; addresses: number[] }> {
  const journal = await Journal.open(new DeviceSet([memory]), UUID, PLACE);
  const { sequence, records, images: found } = await journal.read();
  for (const [address, bytes] of found) {
    expect(Buffer.compare(bytes, image(address, generationOf(bytes)).bytes)).toBe(0);
  }
  return { sequence, records, addresses: [...found.keys()].sort((a, b) => a - b) };
}

/** Puts sectors of `from` over those of `to` in a block. @returns whether that is any difference */
function mix(
  to: MemoryDevice,
  from: MemoryDevice,
  block: number,
  sectors: (sector: number) => boolean,
): boolean {
  const bytes = Buffer.alloc(SECTOR);
  const there = Buffer.alloc(SECTOR);
  let different = false;
  for (let i = 0; i < BLOCK / SECTOR; i++) {
    if (!sectors(i)) continue;
    from.pread(bytes, block * BLOCK + i * SECTOR);
    to.pread(there, block * BLOCK + i * SECTOR);
    different ||= !bytes.equals(there);
    to.pwrite(bytes, block * BLOCK + i * SECTOR);
  }
  return different;
}

describe('the journal of a volume', () => {
  it('has a record whole or not at all, whichever of its sectors is missing', async () => {
    const { memory, journal } = await makeJournal();
    await journal.append(1, images(1, 3));
    const before = memory.fork();
    await journal.append(2, images(2, 3));
    expect(await replayOf(memory)).toMatchObject({ sequence: 2, records: 2 });
    for (let block = 5; block < 9; block++) {
      for (let sector = 0; sector < BLOCK / SECTOR; sector++) {
        const torn = memory.fork();
        // a descriptor names few blocks: the rest of it is zeroes, whether written or not
        if (!mix(torn, before, HEADER_BLOCK + block, (each) => each === sector)) continue;
        expect(await replayOf(torn), `block ${block}, sector ${sector}`).toMatchObject({
          sequence: 1,
          records: 1,
        });
      }
    }
  });

  it('can be opened with a header of which any part was written', async () => {
    const { memory, journal } = await makeJournal();
    for (let sequence = 1; sequence <= 4; sequence++) await journal.append(sequence, images(sequence, 2));
    const before = memory.fork();
    await journal.clear(5);
    for (let sectors = 0; sectors < 256; sectors++) {
      const torn = before.fork();
      mix(torn, memory, HEADER_BLOCK, (sector) => ((sectors >> sector) & 1) === 1);
      const { sequence, records } = await replayOf(torn);
      expect(sequence).toBe(4);
      expect([0, 4]).toContain(records);
    }
  });

  it('goes round, and takes nothing of an earlier lap for its own', async () => {
    const random = new SeededRandom(1);
    const { memory, journal } = await makeJournal();
    let sequence = 0;
    let waiting: number[] = [];
    for (let i = 0; i < 400; i++) {
      const count = 1 + random.below(20);
      if (Journal.recordBlocks(count) > journal.room || random.oneIn(12)) {
        // everything is in its place: the journal begins anew here
        await journal.clear(sequence + 1);
        waiting = [];
        expect(await replayOf(memory)).toMatchObject({ sequence, records: 0 });
      }
      await journal.append(++sequence, images(sequence, count));
      waiting.push(count);
      const { sequence: last, records, addresses } = await replayOf(memory);
      expect([last, records]).toEqual([sequence, waiting.length]);
      const expected = waiting.flatMap((each, at) =>
        images(sequence - waiting.length + 1 + at, each).map(({ address }) => address),
      );
      expect(addresses).toEqual([...new Set(expected)].sort((a, b) => a - b));
    }
    expect(sequence).toBeGreaterThan((3 * BLOCKS_PER_CLUSTER) / 20);
  });

  it('may be replayed as often as one likes, and leaves alone what is newer', async () => {
    const { memory, journal } = await makeJournal();
    for (let sequence = 1; sequence <= 9; sequence++) await journal.append(sequence, images(sequence, 20));
    const newer = image(HOME + 40, 12);
    memory.pwrite(newer.bytes, newer.address * BLOCK);
    const set = new DeviceSet([memory]);
    const replay = await (await Journal.open(set, UUID, PLACE)).read();
    expect(replay.images.has(newer.address)).toBe(true);
    await applyReplay(set, UUID, replay);
    const once = memory.snapshot();
    await applyReplay(set, UUID, replay);
    expect(Buffer.compare(memory.snapshot(), once)).toBe(0);
    const back = Buffer.alloc(BLOCK);
    memory.pread(back, newer.address * BLOCK);
    expect(Buffer.compare(back, newer.bytes)).toBe(0);
  });
});
