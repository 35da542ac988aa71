/** Full volumes: what finds no space changes nothing, and what makes space works. */
import { describe, expect, it } from 'vitest';
import { isVimgError } from '../../src/base/errors.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

type Files = VimsVolume['files'];

/** A change that may need space. */
interface Change {
  readonly name: string;
  readonly work: (files: Files, disk: DiskFile) => Promise<unknown>;
  /** Each cluster of it is changed or not. */
  readonly partly?: boolean;
}

const CHANGES: readonly Change[] = [
  { name: 'a write behind the end', work: async (_, disk) => disk.pwrite(Buffer.alloc(3 * MiB, 9), 5 * MiB) },
  {
    name: 'a write into a hole',
    work: async (_, disk) => disk.pwrite(Buffer.alloc(2 * MiB, 9), 2 * MiB),
    partly: true,
  },
  { name: 'a write into what is shared', work: async (_, disk) => disk.pwrite(Buffer.alloc(512, 9), 4096) },
  {
    name: 'zeroes that keep space',
    work: async (_, disk) => disk.writeZeroes(2 * MiB, 2 * MiB, { keepAllocated: true }),
    partly: true,
  },
  { name: 'zeroes in what is shared', work: async (_, disk) => disk.writeZeroes(100, 100) },
  { name: 'a content', work: (files) => files.replace('ds:note', Buffer.alloc(2 * MiB, 9)) },
  { name: 'a small content', work: (files) => files.replace('ds:note', 'short') },
  { name: 'a copy', work: (files) => files.copy('ds:disk', 'ds:copy2') },
  {
    name: 'a new file',
    work: async (files) => (await files.open('ds:new', { create: 'exclusive' })).close(),
  },
];

/** A volume with a file of which half is shared with a copy, and so many clusters free. */
async function fullVolume(
  free: number,
): Promise<{ memory: MemoryDevice; volume: VimsVolume; disk: DiskFile }> {
  const memory = MemoryDevice.create(32 * MiB);
  await formatVolume([memory]);
  const volume = await VimsVolume.attach('ds', [memory]);
  const { files } = volume;
  const disk = await files.open('ds:disk', { create: 'exclusive' });
  await disk.pwrite(Buffer.alloc(MiB, 1), 0);
  await disk.pwrite(Buffer.alloc(MiB, 1), 4 * MiB);
  await files.copy('ds:disk', 'ds:copy');
  await files.replace('ds:note', 'what was there');
  const ballast = await files.open('ds:ballast', { create: 'exclusive' });
  const bytes = (await volume.capacity()).free - free * MiB;
  await ballast.writeZeroes(0, bytes, { keepAllocated: true });
  await ballast.close();
  await files.syncFolder('ds:');
  expect((await volume.capacity()).free).toBe(free * MiB);
  return { memory, volume, disk };
}

/** All that can be seen. */
async function lookAt(volume: VimsVolume): Promise<Record<string, unknown>> {
  const seen: Record<string, unknown> = { free: (await volume.capacity()).free };
  for (const name of await volume.files.list('ds:')) {
    const file = await volume.files.open(`ds:${name}`, { readOnly: true });
    const content = Buffer.alloc(Math.min(file.size, 8 * MiB));
    await file.pread(content, 0);
    const values: number[] = [];
    for (let i = 0; i < content.length; i += 512) {
      if (content[i] !== values.at(-1)) values.push(i, content[i] as number);
    }
    const allocated = await file.allocatedBytes();
    seen[name] = { size: file.size, allocated, values: values.join(' ') };
    await file.close();
  }
  return seen;
}

describe('a full volume', () => {
  it.each(CHANGES)('does $name wholly, or says that there is no space', async ({ work, partly }) => {
    const failures: number[] = [];
    for (let free = 0; free < 5; free++) {
      const { memory, volume, disk } = await fullVolume(free);
      const before = await lookAt(volume);
      const failed = await work(volume.files, disk).then(
        () => false,
        (error) => {
          expect(error).toMatchObject({ code: 'NO_SPACE' });
          return true;
        },
      );
      if (failed) failures.push(free);
      await volume.files.syncFolder('ds:');
      if (failed && !partly) expect(await lookAt(volume)).toEqual(before);
      await volume.files.remove('ds:ballast');
      await work(volume.files, disk).catch((error) => {
        if (failed || !isVimgError(error, 'EXISTS')) throw error;
      });
      await disk.close();
      await volume.detach();
      expect((await checkVolume([memory])).findings).toEqual([]);
    }
    // with enough space it works, and not again with more of it
    expect(failures).toEqual([...failures.keys()]);
    expect(failures.length).toBeLessThan(5);
  });

  it('can be written where it was written, and disks on it be removed', async () => {
    const { memory, volume, disk } = await fullVolume(0);
    const write = async (value: number): Promise<void> => disk.pwrite(Buffer.alloc(MiB, value), 4 * MiB);
    await expect(write(2)).rejects.toMatchObject({ code: 'NO_SPACE' }); // it is shared
    await volume.files.remove('ds:copy');
    await write(3);
    await disk.discard(0, MiB);
    await disk.pwrite(Buffer.alloc(MiB, 4), 2 * MiB);
    await volume.files.rename('ds:ballast', 'ds:note');
    await volume.files.remove('ds:note');
    await disk.close();
    await volume.detach();
    expect((await checkVolume([memory])).findings).toEqual([]);
  });

  it('full of names gives the space of each back', async () => {
    const memory = MemoryDevice.create(32 * MiB);
    await formatVolume([memory]);
    const volume = await VimsVolume.attach('ds', [memory]);
    const ballast = await volume.files.open('ds:ballast', { create: 'exclusive' });
    await ballast.writeZeroes(0, (await volume.capacity()).free - MiB, { keepAllocated: true });
    await ballast.close();
    const made: string[] = [];
    for (;;) {
      const name = `ds:a name of some length, so that folders take blocks too ${made.length}`;
      try {
        await (await volume.files.open(name, { create: 'exclusive' })).close();
        made.push(name);
      } catch (error) {
        expect(error).toMatchObject({ code: 'NO_SPACE' });
        break;
      }
    }
    expect(made.length).toBeGreaterThan(500);
    expect((await volume.files.list('ds:')).length).toBe(made.length + 1);
    const victim = await volume.files.open(made[0] as string, {});
    for (const name of made) await volume.files.remove(name);
    await victim.close();
    for (const name of made.slice(0, 100)) await volume.files.replace(name, 'again');
    await volume.detach();
    expect((await checkVolume([memory])).findings).toEqual([]);
  });
});
