/** What works in a datastore of every kind: the life of a disk, from creation to removal. */
import { expect } from 'vitest';
import { formats } from '../../formats/index.ts';
import { SeededRandom } from '../../src/base/random.ts';
import { fileExists, listFolder, makeFolder, openFile, removeFolder } from '../../src/device/files.ts';
import { chainOf } from '../../src/image/chain.ts';
import { linkedClone } from '../../src/image/clone.ts';
import { createImage } from '../../src/image/create-image.ts';
import { DiskImage } from '../../src/image/disk-image.ts';
import { createSnapshot, deleteSnapshot, listSnapshots, revertSnapshot } from '../../src/image/snapshot.ts';
import { moveFile, removeFiles } from '../../src/image/whole-file.ts';
import { convertDisk } from '../../src/job/convert.ts';
import { copyFile } from '../../src/job/copy-file.ts';
import { checkDisks } from '../../src/storage/check-disks.ts';

const MiB = 1024 * 1024;
const SIZE = 16 * MiB;
const context = { formats };

/** Writes runs at random places; the model gets the same. */
async function scribble(path: string, model: Uint8Array, random: SeededRandom): Promise<void> {
  const disk = await DiskImage.open(path, { formats, readOnly: false });
  for (let i = 0; i < 12; i++) {
    const data = random.fill(new Uint8Array(1 + random.below(100_000)));
    const offset = random.below(SIZE - data.length);
    await disk.pwrite(data, offset);
    model.set(data, offset);
  }
  await disk.flush();
  await disk.close();
}

async function expectContent(path: string, model: Uint8Array, snapshot?: string): Promise<void> {
  const disk = await DiskImage.open(path, { formats, snapshot });
  const bytes = new Uint8Array(SIZE);
  await disk.pread(bytes, 0);
  await disk.close();
  expect(Buffer.compare(bytes, model), `${path} ${snapshot ?? ''}`).toBe(0);
}

/** @param place `ds1:`, empty; it is empty again afterwards */
export async function lifeOfADisk(place: string, seed: number): Promise<void> {
  const random = new SeededRandom(seed);
  const disk = `${place}vm1/root.vvd`;
  await makeFolder(`${place}vm1`);
  await createImage(disk, { formats, format: 'vvd', size: SIZE });
  const model = new Uint8Array(SIZE);
  await scribble(disk, model, random);
  await createSnapshot([disk], 'a', context);
  const past = model.slice();
  await scribble(disk, model, random);
  await createSnapshot([disk], 'b', context);
  await scribble(disk, model, random);
  await expectContent(disk, model);
  await expectContent(disk, past, 'a');

  await makeFolder(`${place}clones`);
  await linkedClone(disk, `${place}clones/c.vvd`, { ...context, snapshot: 'a' });
  await expectContent(`${place}clones/c.vvd`, past);
  await expect(deleteSnapshot(disk, 'a', context)).rejects.toMatchObject({ code: 'LOCKED' });
  const clone = past.slice();
  await scribble(`${place}clones/c.vvd`, clone, random);
  await moveFile(`${place}clones/c.vvd`, `${place}vm1/c.vvd`, context);
  await expectContent(`${place}vm1/c.vvd`, clone);
  expect((await chainOf(`${place}vm1/c.vvd`, context)).map((link) => link.state)).toEqual(['ok', 'ok']);

  const source = await DiskImage.open(`${place}vm1/c.vvd`, { formats });
  await convertDisk(source, { path: `${place}clones/d.qcow2`, format: 'qcow2' }, { formats, compress: true });
  await source.close();
  await copyFile(`${place}clones/d.qcow2`, `${place}clones/e.qcow2`, context);
  await expectContent(`${place}clones/e.qcow2`, clone);

  await expect(removeFiles([`${place}vm1/root@a.vvd`], context)).rejects.toMatchObject({ code: 'LOCKED' });
  await removeFiles([`${place}vm1/c.vvd`, `${place}clones/d.qcow2`, `${place}clones/e.qcow2`], context);
  await deleteSnapshot(disk, 'a', context);
  await revertSnapshot(disk, 'b', context);
  await deleteSnapshot(disk, 'b', context);
  expect(await listSnapshots(disk, context)).toEqual([]);
  for await (const checked of checkDisks(place, formats, new AbortController().signal)) {
    expect(checked).toMatchObject({ state: 'sound' });
  }
  expect(await listFolder(`${place}vm1`)).toEqual(['root.vvd']);

  const user = await openFile(disk, { lock: 'write' });
  await expect(removeFiles([disk], context)).rejects.toMatchObject({ code: 'LOCKED' });
  await user.close();
  await removeFiles([disk], context);
  expect(await fileExists(disk)).toBe(false);
  await removeFolder(`${place}vm1`);
  await removeFolder(`${place}clones`);
  expect(await listFolder(place)).toEqual([]);
}
