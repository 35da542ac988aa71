/** Where a zstd frame ends, held against a real encoder. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compressCluster, decompressCluster } from '../../formats/qcow2/compressed-cluster.ts';
import { loadZstd } from '../../src/binary/zstd-codec.ts';
import { measureZstdFrame } from '../../src/binary/zstd-frame.ts';

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];

describe('measureZstdFrame', () => {
  test('finds the end of every frame that the encoder makes', async () => {
    const codec = await loadZstd();
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 3000 }),
        fc.uint8Array({ maxLength: 600 }),
        fc.nat(200_000),
        async (data, tail, zeroes) => {
          const content = Buffer.concat([data, Buffer.alloc(zeroes), data]);
          const frame = await codec.compress(content);
          const measured = measureZstdFrame(Buffer.concat([frame, tail]));
          expect(measured.length).toBe(frame.length);
          expect(measured.contentMax).toBeGreaterThanOrEqual(content.length);
          expect(measured.contentSize ?? content.length).toBe(content.length);
        },
      ),
      { seed: 1, numRuns: 60 },
    );
  });

  test('reads each form of the header', () => {
    const lastEmptyBlock = [1, 0, 0];
    const forms: readonly (readonly [number[], number | undefined])[] = [
      [[0x20, 7], 7],
      [[0x60, 1, 0], 257],
      [[0xa0, 1, 0, 1, 0], 65537],
      [[0xe0, 2, 0, 0, 0, 0, 0, 0, 0], 2],
      [[0x00, 0x38], undefined],
      [[0x80, 0x38, 9, 0, 0, 0], 9],
      [[0x01, 0x38, 0], undefined],
    ];
    for (const [header, contentSize] of forms) {
      const frame = Uint8Array.from([...MAGIC, ...header, ...lastEmptyBlock]);
      expect(measureZstdFrame(frame)).toMatchObject({ length: frame.length, contentSize });
    }
  });

  test('counts the checksum', () => {
    const frame = Uint8Array.from([...MAGIC, 0x04, 0x38, 1, 0, 0, 9, 9, 9, 9]);
    expect(measureZstdFrame(frame).length).toBe(frame.length);
    expect(() => measureZstdFrame(frame.subarray(0, frame.length - 1))).toThrow(/cut short/);
  });

  test('passes skippable frames', () => {
    const frame = Uint8Array.from([0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 1]);
    expect(measureZstdFrame(frame)).toMatchObject({ length: 10, skippable: true });
  });

  test.each([
    ['nothing', [], 'CORRUPT'],
    ['another magic', [1, 2, 3, 4, 0, 0x38, 1, 0, 0], 'CORRUPT'],
    ['a reserved bit', [...MAGIC, 0x08, 0x38, 1, 0, 0], 'CORRUPT'],
    ['a reserved block type', [...MAGIC, 0x00, 0x38, 7, 0, 0], 'CORRUPT'],
    ['a block past the end', [...MAGIC, 0x00, 0x38, 1, 4, 0], 'CORRUPT'],
    ['a block larger than the window allows', [...MAGIC, 0x00, 0x00, 1, 0xff, 0xff], 'CORRUPT'],
    ['no last block', [...MAGIC, 0x00, 0x38, 0, 0, 0], 'CORRUPT'],
    ['a dictionary', [...MAGIC, 0x01, 0x38, 5, 1, 0, 0], 'UNSUPPORTED'],
    ['a window of 16 MiB', [...MAGIC, 0x00, 0x70, 1, 0, 0], 'UNSUPPORTED'],
  ])('refuses %s', (_, bytes, code) => {
    expect(() => measureZstdFrame(Uint8Array.from(bytes))).toThrow(expect.objectContaining({ code }));
  });
});

describe('compressed clusters', () => {
  test.each(['zlib', 'zstd'] as const)('%s comes back, whatever follows it', async (type) => {
    const unit = new Uint8Array(65536);
    for (let i = 0; i < unit.length; i++) unit[i] = (i * i) >>> 9;
    const stored = await compressCluster(type, unit);
    expect(stored?.length).toBeLessThan(65536);
    for (const tail of [
      Buffer.alloc(0),
      Buffer.alloc(300),
      Buffer.from(stored ?? []),
      Buffer.alloc(511, 0x28),
    ]) {
      const back = await decompressCluster(type, Buffer.concat([stored ?? Buffer.alloc(0), tail]), 65536);
      expect(Buffer.compare(back, unit)).toBe(0);
    }
  });

  test('what does not shrink is not compressed', async () => {
    const unit = new Uint8Array(4096);
    let state = 1;
    for (let i = 0; i < unit.length; i++) unit[i] = (state = Math.imul(state, 48271) >>> 0) >>> 11;
    expect(await compressCluster('zlib', unit)).toBeUndefined();
    expect(await compressCluster('zstd', unit)).toBeUndefined();
  });

  test('a cluster may be made of several frames', async () => {
    const codec = await loadZstd();
    const halves = [await codec.compress(Buffer.alloc(2048, 1)), await codec.compress(Buffer.alloc(2048, 2))];
    const back = await decompressCluster('zstd', Buffer.concat(halves), 4096);
    expect(Buffer.compare(back, Buffer.concat([Buffer.alloc(2048, 1), Buffer.alloc(2048, 2)]))).toBe(0);
  });

  test.each(['zlib', 'zstd'] as const)('%s of another size than the cluster is CORRUPT', async (type) => {
    const stored = (await compressCluster(type, new Uint8Array(8192))) ?? new Uint8Array(0);
    await expect(decompressCluster(type, stored, 16384)).rejects.toMatchObject({ code: 'CORRUPT' });
    await expect(decompressCluster(type, stored, 4096)).rejects.toMatchObject({ code: 'CORRUPT' });
  });
});
