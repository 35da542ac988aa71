/** Closing a disk while operations are under way: what then succeeds is in the file. */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { RawLayer } from '../../formats/raw/layer.ts';
import { createVvd } from '../../formats/vvd/create.ts';
import { openVvd } from '../../formats/vvd/open.ts';
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { CountDevice } from '../../src/device/count-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import { ShuffleDevice } from '../../src/testing/index.ts';

const BLOCK = 64 * 1024;

async function open(file: BlockDevice): Promise<DiskImage> {
  return new DiskImage('memory', [await openVvd(file, { readOnly: false, gate: closedGate })]);
}

describe('a disk closed in the middle of operations', () => {
  it.each(Array.from({ length: 20 }, (_, i) => i))('keeps what they wrote (order %i)', async (seed) => {
    const memory = MemoryDevice.create(0);
    await createVvd(memory, { virtualSize: 64 * BLOCK, options: { block_size: BLOCK }, gate: closedGate });
    const disk = await open(new ShuffleDevice(memory, seed, { sameTickOneIn: 0 }));
    const blocks = [1, 2, 3, 10, 11, 40];
    const writes = blocks.map(async (block) => disk.pwrite(new Uint8Array(BLOCK).fill(block), block * BLOCK));
    const compressed = disk.writeCompressed(50 * BLOCK, new Uint8Array(BLOCK).fill(50));
    await Promise.all([disk.close(), ...writes, compressed]);
    const again = await open(memory);
    for (const block of [...blocks, 50]) {
      const seen = new Uint8Array(BLOCK);
      await again.pread(seen, block * BLOCK);
      expect(seen.every((byte) => byte === block)).toBe(true);
    }
    await again.close();
  });

  it('makes durable what was written, in a raw disk too, and tells when it could not', async () => {
    const counted = new CountDevice(MemoryDevice.create(BLOCK));
    const disk = new DiskImage('memory', [new RawLayer(counted, false)]);
    await disk.pwrite(Buffer.from('data'), 0);
    await disk.close();
    await disk.close();
    expect(counted.counts.flush.operations).toBe(1);
    const broken = MemoryDevice.create(BLOCK);
    broken.flush = () => Promise.reject(new VimgError('IO', 'broken'));
    const other = new DiskImage('memory', [new RawLayer(broken, false)]);
    await other.pwrite(Buffer.from('data'), 0);
    await expect(other.close()).rejects.toMatchObject({ code: 'IO' });
  });

  it('refuses what comes after', async () => {
    const memory = MemoryDevice.create(0);
    await createVvd(memory, { virtualSize: BLOCK, options: {}, gate: closedGate });
    const disk = await open(memory);
    await disk.close();
    await expect(async () => disk.pwrite(new Uint8Array(512), 0)).rejects.toMatchObject({ code: 'IO' });
  });
});

it('layers are not exchanged while somebody asks where things lie', async () => {
  const memory = MemoryDevice.create(0);
  await createVvd(memory, { virtualSize: 64 * BLOCK, options: { block_size: BLOCK }, gate: closedGate });
  const layer = await openVvd(memory, { readOnly: false, gate: closedGate });
  const locate = layer.locate.bind(layer);
  layer.locate = async (...question) => {
    await setImmediate(); // as where the table page has to be fetched
    return locate(...question);
  };
  const disk = new DiskImage('memory', [layer]);
  const ended: string[] = [];
  const note = (what: string) => (): unknown => ended.push(what);
  const questions = { map: () => disk.mapAt(0, 512), store: () => disk.storedAt(0, 512) };
  for (const [what, ask] of Object.entries(questions)) {
    const answer = Promise.resolve(ask() as Promise<unknown>).then(note(what));
    await disk.exclusively(() => Promise.resolve()).then(note('exchange'));
    await answer;
  }
  expect(ended).toEqual(['map', 'exchange', 'store', 'exchange']);
  await disk.close();
});
