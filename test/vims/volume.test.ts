/** A volume as a whole: made, attached, used, left and attached again. */
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/base/random.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';
import { edit } from './sample-volume.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

async function fresh(...sizes: number[]): Promise<{ devices: MemoryDevice[]; volume: VimsVolume }> {
  const devices = sizes.map((size) => MemoryDevice.create(size));
  await formatVolume(devices);
  return { devices, volume: await VimsVolume.attach('ds', devices) };
}

describe('a volume', () => {
  it('is empty when it is new, and says what it can hold', async () => {
    const { volume } = await fresh(64 * MiB);
    expect(await volume.files.list('ds:')).toEqual([]);
    const { capacity, used, free } = await volume.capacity();
    expect(capacity).toBe(60 * MiB);
    expect(used + free).toBe(capacity);
    await volume.detach();
  });

  it('has a journal that leaves room on a small first device, however large the others are', async () => {
    const devices = [40 * MiB, 300 * GiB].map((size) => MemoryDevice.create(size, { growable: false }));
    await formatVolume(devices);
    expect((await checkVolume(devices)).findings).toEqual([]);
    const volume = await VimsVolume.attach('ds', devices);
    const file = await volume.files.open('ds:disk', { create: 'exclusive' });
    await file.pwrite(Buffer.alloc(40 * MiB, 1), 0);
    await file.close();
    await volume.detach();
    expect((await checkVolume(devices)).findings).toEqual([]);
  });

  it('keeps names and content over being detached', async () => {
    const { devices, volume } = await fresh(64 * MiB);
    await volume.files.makeFolder('ds:vm1');
    const file = await volume.files.open('ds:vm1/root.raw', { create: 'exclusive' });
    await file.resize(5 * MiB);
    const data = Buffer.alloc(3 * MiB + 512, 7);
    await file.pwrite(data, 700_000);
    await file.close();
    await volume.files.replace('ds:vm1/note', 'hello');
    await volume.detach();

    const again = await VimsVolume.attach('ds', devices);
    expect((await again.files.list('ds:vm1')).sort()).toEqual(['note', 'root.raw']);
    const note = await again.files.open('ds:vm1/note', { readOnly: true });
    const text = Buffer.alloc(5);
    await note.pread(text, 0);
    expect(text.toString()).toBe('hello');
    await note.close();
    const opened = await again.files.open('ds:vm1/root.raw', {});
    expect(opened.size).toBe(5 * MiB);
    const back = Buffer.alloc(5 * MiB, 1);
    await opened.pread(back, 0);
    const expected = Buffer.alloc(5 * MiB);
    data.copy(expected, 700_000);
    expect(back.equals(expected)).toBe(true);
    await opened.close();
    await again.detach();
  });

  it('gives back what is removed', async () => {
    const { volume } = await fresh(64 * MiB);
    const before = await volume.capacity();
    const file = await volume.files.open('ds:disk', { create: 'exclusive' });
    await file.pwrite(Buffer.alloc(20 * MiB, 1), 0);
    await file.flush();
    expect((await volume.capacity()).free).toBe(before.free - 20 * MiB);
    await file.close();
    await volume.files.remove('ds:disk');
    await volume.files.syncFolder('ds:');
    expect((await volume.capacity()).free).toBe(before.free);
    await volume.detach();
  });

  it('copies at once, and the copies are apart from then on', async () => {
    const { volume } = await fresh(64 * MiB);
    const file = await volume.files.open('ds:disk', { create: 'exclusive' });
    await file.pwrite(Buffer.alloc(10 * MiB, 1), 0);
    const used = (await volume.capacity()).used;
    expect(await volume.files.copy('ds:disk', 'ds:copy')).toBe(true);
    expect((await volume.capacity()).used).toBe(used);
    await file.pwrite(Buffer.alloc(4096, 2), 5000);
    const copy = await volume.files.open('ds:copy', {});
    const back = Buffer.alloc(10 * MiB);
    await copy.pread(back, 0);
    expect(back.equals(Buffer.alloc(10 * MiB, 1))).toBe(true);
    await copy.pwrite(Buffer.alloc(10, 3), 0);
    await file.pread(back, 0);
    const expected = Buffer.alloc(10 * MiB, 1);
    expected.fill(2, 5000, 5000 + 4096);
    expect(back.equals(expected)).toBe(true);
    await copy.close();
    await file.close();
    await volume.detach();
  });

  it('copies to names that are free, and to no others', async () => {
    const { volume } = await fresh(64 * MiB);
    await volume.files.replace('ds:one', 'one');
    await volume.files.replace('ds:two', 'two');
    await expect(volume.files.copy('ds:one', 'ds:two')).rejects.toMatchObject({ code: 'EXISTS' });
    const copies = await Promise.allSettled(
      ['one', 'two'].map((name) => volume.files.copy(`ds:${name}`, 'ds:new')),
    );
    expect(copies.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect((await volume.files.list('ds:')).sort()).toEqual(['new', 'one', 'two']);
    await volume.detach();
  });

  it('works through many names', async () => {
    const { devices, volume } = await fresh(4 * GiB);
    await volume.files.makeFolder('ds:many');
    const names = new Set<string>();
    const random = new SeededRandom(1);
    for (let i = 0; i < 3000; i++) {
      const name = `file-${i}-${random.below(1e9)}`;
      names.add(name);
      await (await volume.files.open(`ds:many/${name}`, { create: 'exclusive' })).close();
    }
    for (const name of [...names]) {
      if (!random.oneIn(3)) continue;
      await volume.files.remove(`ds:many/${name}`);
      names.delete(name);
    }
    await volume.detach();
    const again = await VimsVolume.attach('ds', devices);
    expect((await again.files.list('ds:many')).sort()).toEqual([...names].sort());
    for (const name of names) expect(await again.files.status(`ds:many/${name}`)).toBeDefined();
    await again.detach();
  });

  it('spans several devices, and takes in another one while it is in use', async () => {
    const { devices, volume } = await fresh(40 * MiB, 40 * MiB);
    const file = await volume.files.open('ds:disk', { create: 'exclusive' });
    const { capacity } = await volume.capacity();
    await expect(file.pwrite(Buffer.alloc(80 * MiB, 9), 0)).rejects.toMatchObject({ code: 'NO_SPACE' });
    const third = MemoryDevice.create(64 * MiB);
    await volume.addDevice(third);
    expect((await volume.capacity()).capacity).toBe(capacity + 60 * MiB);
    for (let i = 0; i < 80; i++) await file.pwrite(Buffer.alloc(MiB, i + 1), i * MiB);
    await file.close();
    await volume.detach();
    const again = await VimsVolume.attach('ds', [...devices, third]);
    const opened = await again.files.open('ds:disk', { readOnly: true });
    const back = Buffer.alloc(MiB);
    for (let i = 0; i < 80; i++) {
      await opened.pread(back, i * MiB);
      expect(back.equals(Buffer.alloc(MiB, i + 1))).toBe(true);
    }
    await opened.close();
    await again.detach();
  });

  it('takes in what its device has grown by', async () => {
    const { devices, volume } = await fresh(64 * MiB);
    await devices[0]?.resize(3 * GiB);
    expect(await volume.grow()).toBe(3 * GiB - 64 * MiB);
    const file = await volume.files.open('ds:disk', { create: 'exclusive' });
    await file.pwrite(Buffer.alloc(200 * MiB, 5), 0);
    await file.close();
    await volume.detach();
    const again = await VimsVolume.attach('ds', devices);
    expect((await again.files.status('ds:disk'))?.allocated).toBe(200 * MiB);
    await again.detach();
  });

  it('is opened by the second superblock when the first has a number that can be none', async () => {
    const { devices, volume } = await fresh(64 * MiB);
    await volume.files.replace('ds:note', 'x');
    await volume.detach();
    // `root`, with a right checksum
    edit(devices, 0, (view) => view.setBigUint64(64 + 56, 2n ** 60n, true));
    const again = await VimsVolume.attach('ds', devices);
    expect(await again.files.list('ds:')).toEqual(['note']);
    await again.detach();
  });
});
