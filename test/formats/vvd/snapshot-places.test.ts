/** Snapshots of several disks, some of them named through a datastore of the folder that others are named in. */
import { mkdirSync, readdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formats } from '../../../formats/index.ts';
import { openForChange } from '../../../formats/vvd/disk-file.ts';
import { StagedSnapshot } from '../../../formats/vvd/snapshot-create.ts';
import { mountFiles } from '../../../src/device/mounts.ts';
import { createImage } from '../../../src/image/create-image.ts';
import { DiskImage } from '../../../src/image/disk-image.ts';
import { snapshotOpenDisks } from '../../../src/image/open-disks.ts';
import { createSnapshot, listSnapshots } from '../../../src/image/snapshot.ts';
import { DirectoryFiles } from '../../../src/storage/directory-files.ts';

const SIZE = 1024 * 1024;
const context = { formats };
let folder: string;
let cleanup: () => Promise<void>;
let unmount: () => void;

beforeEach(async () => {
  const made = await dir({ unsafeCleanup: true, prefix: 'vimg-places-' });
  folder = made.path;
  cleanup = made.cleanup;
  mkdirSync(join(folder, 'share'));
  symlinkSync('share', join(folder, 'link'));
  unmount = mountFiles('ds1', await DirectoryFiles.open('ds1', join(folder, 'link')));
  for (const path of [at('o.vvd'), 'ds1:a.vvd'])
    await createImage(path, { formats, format: 'vvd', size: SIZE });
});
afterEach(async () => {
  unmount();
  await cleanup();
});

const at = (name: string): string => join(folder, name);
const names = (): string[][] => ['', 'share'].map((name) => readdirSync(at(name)).sort());
const TAKEN = [
  ['link', 'o.vvd', 'o@s.vvd', 'share'],
  ['a.vvd', 'a@s.vvd'],
];
const orders = [
  ['o.vvd', 'ds1:a.vvd'],
  ['ds1:a.vvd', 'o.vvd'],
] as const;

const named = (name: string): string => (name.startsWith('ds1:') ? name : at(name));

describe.each(orders)('a snapshot of %s and %s', (...order) => {
  const paths = (): string[] => order.map(named);

  it('is one of both', async () => {
    await createSnapshot(paths(), 's', context);
    expect(names()).toEqual(TAKEN);
    for (const path of paths())
      expect((await listSnapshots(path, context)).map(({ name }) => name)).toEqual(['s']);
  });

  it('is taken while both are open, and they keep the names that they have', async () => {
    const disks: DiskImage[] = [];
    for (const path of paths()) disks.push(await DiskImage.open(path, { formats, readOnly: false }));
    await snapshotOpenDisks(disks, [], 's', formats);
    const files = disks.flatMap((disk) => disk.layers.map((layer) => layer.file.name));
    expect(files.sort()).toEqual([at('o.vvd'), at('o@s.vvd'), 'ds1:a.vvd', 'ds1:a@s.vvd'].sort());
    for (const disk of disks) await disk.pwrite(Buffer.from('later'), 0);
    for (const disk of disks) await disk.close();
    expect(names()).toEqual(TAKEN);
  });

  it.each([
    ['ds1:a.vvd', 'o.vvd'],
    ['share/a.vvd', 'o.vvd'],
    ['o.vvd', 'link/a.vvd'],
  ])('that a crash interrupted after its moment is completed, opened as %s and %s', async (...opened) => {
    const tops = [];
    for (const path of paths()) tops.push(await openForChange(path));
    const staged = await StagedSnapshot.make(tops, 's');
    const hidden = ['.o@s.vvd.new', 'share/.a@s.vvd.new'];
    for (const name of hidden) renameSync(at(name), at(`${name}.away`)); // the first rename will fail
    await expect(staged.take()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await staged.closeTops();
    for (const { file } of tops) await file.close();
    for (const name of hidden) renameSync(at(`${name}.away`), at(name));
    for (const name of opened)
      await (await DiskImage.open(named(name), { formats, readOnly: false })).close();
    expect(
      names()
        .flat()
        .filter((name) => !name.startsWith('.')),
    ).toEqual(TAKEN.flat());
  });
});

it('a disk that is named twice is one disk', async () => {
  await createSnapshot(['ds1:a.vvd', at('share/a.vvd'), at('link/a.vvd')], 's', context);
  expect(names()[1]).toEqual(['a.vvd', 'a@s.vvd']);
});
