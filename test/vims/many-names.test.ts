/** A hundred thousand names in one folder: no change of one of them reads or writes more than a few blocks. */
import { expect, it } from 'vitest';
import { CountDevice } from '../../src/device/count-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const GiB = 1024 ** 3;
const NAMES = 100_000;
const BLOCK = 4096;

function nameOf(i: number): string {
  return `ds:many/disk-${i}.vvd`;
}

it('a folder of 100,000 names', async () => {
  const memory = MemoryDevice.create(16 * GiB);
  await formatVolume([memory]);
  let volume = await VimsVolume.attach('ds', [memory]);
  await volume.files.makeFolder('ds:many');
  // files are not what this is about: many names of a few of them
  for (let i = 0; i < 2; i++) await (await volume.files.open(`ds:f${i}`, { create: 'exclusive' })).close();
  for (let i = 0; i < NAMES; i++) await volume.files.link(`ds:f${Math.floor(i / (NAMES / 2))}`, nameOf(i));
  await volume.detach();

  const device = new CountDevice(memory);
  volume = await VimsVolume.attach('ds', [device]);
  device.reset();
  expect(await volume.files.status(nameOf(77_777))).toBeDefined();
  expect(await volume.files.status(`${nameOf(77_777)}x`)).toBeUndefined();
  // the root, the folder, two levels of its table and two buckets, and the file
  expect(device.counts.read.operations).toBeLessThanOrEqual(10);

  device.reset();
  await volume.files.remove(nameOf(12_345));
  await volume.files.link('ds:f0', nameOf(NAMES));
  await volume.files.rename(nameOf(54_321), nameOf(NAMES + 1));
  expect(device.counts.read.operations).toBeLessThanOrEqual(16);
  await volume.files.syncFolder('ds:');
  expect(device.counts.write.bytes).toBeLessThanOrEqual(16 * BLOCK);

  device.reset();
  const names = await volume.files.list('ds:many');
  expect(new Set(names).size).toBe(NAMES);
  // each bucket once, and the table: no more than the names take when buckets are half full
  expect(device.counts.read.bytes).toBeLessThanOrEqual(2.5 * NAMES * (14 + 14) + 100 * BLOCK);

  device.reset();
  for (const name of names) await volume.files.remove(`ds:many/${name}`);
  expect(await volume.files.list('ds:many')).toEqual([]);
  expect(device.counts.read.operations).toBeLessThanOrEqual(100);
  await volume.files.removeFolder('ds:many');
  await volume.detach();
});

it('ten thousand files made in a row', async () => {
  const memory = MemoryDevice.create(16 * GiB);
  await formatVolume([memory]);
  const device = new CountDevice(memory);
  const volume = await VimsVolume.attach('ds', [device]);
  await volume.files.makeFolder('ds:many');
  device.reset();
  const start = performance.now();
  for (let i = 0; i < 10_000; i++)
    await (await volume.files.open(nameOf(i), { create: 'exclusive' })).close();
  await volume.files.syncFolder('ds:many');
  process.stdout.write(`10,000 files made in ${Math.round(performance.now() - start)} ms\n`);
  // inodes, buckets, and what a commit takes along
  expect(device.counts.write.bytes / BLOCK).toBeLessThanOrEqual(10_000 * 8);
  expect(device.counts.flush.operations).toBeLessThanOrEqual(10_000 / 20);
  await volume.detach();
});
