/** Where files lie on the device: side by side what is side by side in the file, in whatever order it was written. */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { SEGMENT } from '../../src/vims/free-map.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;
const SIZE = 2048;

/** A volume whose files say in each of their clusters which file and which cluster of it this is. */
class MarkedVolume {
  readonly memory: MemoryDevice;
  readonly volume: VimsVolume;
  #files = 0;

  private constructor(memory: MemoryDevice, volume: VimsVolume) {
    this.memory = memory;
    this.volume = volume;
  }

  static async make(size = SIZE): Promise<MarkedVolume> {
    const memory = MemoryDevice.create(size * MiB);
    await formatVolume([memory]);
    return new MarkedVolume(memory, await VimsVolume.attach('ds', [memory]));
  }

  async open(name: string, size = 0): Promise<MarkedFile> {
    const file = await this.volume.files.open(`ds:${name}`, {});
    if (size > 0) await file.resize(size * MiB);
    return new MarkedFile(this, file, ++this.#files);
  }

  async create(name: string, size = 0): Promise<MarkedFile> {
    await (await this.volume.files.open(`ds:${name}`, { create: 'exclusive' })).close();
    return this.open(name, size);
  }

  /** Nothing is wrong with it. */
  async leave(): Promise<void> {
    await this.volume.detach();
    expect((await checkVolume([this.memory])).findings).toEqual([]);
  }
}

class MarkedFile {
  readonly #volume: MarkedVolume;
  readonly file: DiskFile;
  readonly #mark: number;

  constructor(volume: MarkedVolume, file: DiskFile, mark: number) {
    this.#volume = volume;
    this.file = file;
    this.#mark = mark;
  }

  async write(...indexes: number[]): Promise<void> {
    for (const index of indexes) {
      const word = Buffer.alloc(8);
      word.writeUInt32LE(0x4d41_524b, 0);
      word.writeUInt32LE(this.#mark * 65536 + index, 4);
      await this.file.pwrite(word, index * MiB);
    }
  }

  /** Cluster of the device that each cluster of it was written to. */
  places(): Map<number, number> {
    const places = new Map<number, number>();
    const word = Buffer.alloc(8);
    for (let cluster = 0; cluster < this.#volume.memory.size / MiB; cluster++) {
      this.#volume.memory.pread(word, cluster * MiB);
      const mark = word.readUInt32LE(4);
      if (word.readUInt32LE(0) !== 0x4d41_524b || Math.floor(mark / 65536) !== this.#mark) continue;
      places.set(mark % 65536, cluster);
    }
    return places;
  }

  /** Runs of clusters that follow each other in the file and on the device. */
  get runs(): number {
    const places = this.places();
    return [...places].filter(([index, cluster]) => places.get(index - 1) !== cluster - 1).length;
  }
}

const range = (from: number, end: number): number[] => Array.from({ length: end - from }, (_, i) => from + i);

function shuffled(seed: number, indexes: number[]): number[] {
  const random = new SeededRandom(seed);
  for (let i = indexes.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [indexes[i], indexes[j]] = [indexes[j] as number, indexes[i] as number];
  }
  return indexes;
}

describe('a file', () => {
  it('that was written at random lies as one that was written in order', async () => {
    const volume = await MarkedVolume.make();
    const disk = await volume.create('disk', 512);
    await disk.write(...shuffled(1, range(0, 512)));
    expect(disk.places().size).toBe(512);
    expect(disk.runs).toBeLessThanOrEqual(512 / SEGMENT);
    await volume.leave();
  });

  it('has long runs, however many others grow at the same time', async () => {
    const volume = await MarkedVolume.make();
    const files = await Promise.all(range(0, 6).map((i) => volume.create(`disk-${i}`)));
    for (const index of range(0, 256)) for (const file of files) await file.write(index);
    // 4, 4, 8, 16, 32, 64, and then a segment at a time
    for (const file of files) expect(file.runs).toBeLessThanOrEqual(6 + 128 / SEGMENT);
    await volume.leave();
  });

  it('gets what it discarded back in its place, though it was closed in between', async () => {
    const volume = await MarkedVolume.make();
    const disk = await volume.create('disk', 256);
    const other = await volume.create('other');
    await disk.write(...range(0, 256));
    const before = disk.places();
    await disk.file.discard(70 * MiB, 50 * MiB);
    await disk.file.flush();
    await disk.file.close();
    await other.write(...range(0, 200));
    const again = await volume.open('disk');
    await again.write(...shuffled(2, range(70, 120)));
    for (const [index, cluster] of again.places())
      expect(cluster, `cluster ${index}`).toBe(before.get(index));
    await volume.leave();
  });

  it('is written beside what it shares with a copy, in few runs', async () => {
    const volume = await MarkedVolume.make();
    const disk = await volume.create('disk', 256);
    await disk.write(...range(0, 256));
    await disk.file.close();
    await volume.volume.files.copy('ds:disk', 'ds:copy');
    const copy = await volume.open('copy');
    await copy.write(...shuffled(3, range(64, 192)));
    expect(copy.places().size).toBe(128);
    expect(copy.runs).toBeLessThanOrEqual(2);
    await volume.leave();
  });

  it('leaves whole segments to those who want them, when it is small', async () => {
    const volume = await MarkedVolume.make();
    for (const i of range(0, 300)) {
      const small = await volume.create(`small-${i}`);
      await small.write(0);
      await small.file.close();
    }
    const disk = await volume.create('disk', 1024);
    await disk.write(...range(0, 1024));
    expect(disk.runs).toBeLessThanOrEqual(1024 / SEGMENT);
    await volume.leave();
  });

  it('uses the last free cluster, wherever that is', async () => {
    const volume = await MarkedVolume.make(256);
    const disk = await volume.create('disk', 1024);
    await disk.write(0, 100, 200, 300, 400, 500, 600, 700, 800, 900);
    const other = await volume.create('other');
    const { free } = await volume.volume.capacity();
    await other.write(...range(0, free / MiB));
    await expect(other.write(free / MiB)).rejects.toMatchObject({ code: 'NO_SPACE' });
    await volume.volume.files.remove('ds:disk');
    await disk.file.close();
    await other.write(...range(free / MiB, free / MiB + 10));
    await volume.leave();
  });
});
