/** Blocks in memory: what is needed together is there together, however much must stay besides. */
import { afterEach, expect, it } from 'vitest';
import { LIMITS } from '../../src/base/limits.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { blockBytes, seal } from '../../src/vims/block.ts';
import { BlockCache } from '../../src/vims/block-cache.ts';
import { DeviceSet } from '../../src/vims/device-set.ts';
import { BLOCK } from '../../src/vims/geometry.ts';

const UUID = '0f6b2a51-7d0c-4e0f-9a52-6c1f3f1b7a10';
const BLOCKS = 400;
const limits = LIMITS as { metadataCache: number };
const usual = LIMITS.metadataCache;

afterEach(() => {
  limits.metadataCache = usual;
});

/** A cache of so many blocks, on a device full of blocks; those from 0 to `needed` must stay. */
function makeCache(max: number, needed: number): BlockCache {
  const memory = MemoryDevice.create(BLOCKS * BLOCK);
  for (let address = 0; address < BLOCKS; address++) {
    const bytes = blockBytes('tree', UUID, address, 1);
    seal(bytes, 1);
    memory.pwrite(bytes, address * BLOCK);
  }
  limits.metadataCache = max * BLOCK;
  return new BlockCache(new DeviceSet([memory]), UUID, (address) => address < needed);
}

it('keeps a path of blocks while it is walked, also when more must stay than the limit allows', async () => {
  const needed = 100;
  const cache = makeCache(32, needed);
  for (let address = 0; address < needed; address++) await cache.read('tree', address);
  for (let round = 0; round < 40; round++) {
    const path = Array.from({ length: 5 }, (_, i) => needed + round * 5 + i);
    // as a file's tree is read: from the root down, again from the start after each block that was missing
    let reads = 0;
    for (let missing = path[0]; missing !== undefined; missing = path.find((each) => !cache.peek(each))) {
      await cache.read('tree', missing);
      expect(++reads).toBeLessThanOrEqual(path.length);
    }
  }
});

it('lets go of what is not used, and never of what must stay', async () => {
  const needed = 10;
  const cache = makeCache(64, needed);
  for (let address = 0; address < BLOCKS; address++) {
    await cache.read('tree', address);
    expect(cache.blocks.size).toBeLessThanOrEqual(64 + 8 + 1);
  }
  for (let address = 0; address < needed; address++) expect(cache.blocks.has(address)).toBe(true);
});
