/** Datastores on devices: what is refused, what is found again, who attaches. */
import { openSync, renameSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readConfiguration } from '../../src/storage/configuration.ts';
import { findDatastore, forgetDatastore } from '../../src/storage/datastore.ts';
import { MountedDatastores } from '../../src/storage/mounted-datastores.ts';
import { checkVolume } from '../../src/storage/volume-check.ts';
import {
  addVolumeDatastore,
  createVolumeDatastore,
  extendVolumeDatastore,
  openVolumeDatastore,
} from '../../src/storage/volume-datastore.ts';
import { makeLunFile } from '../../src/storage/volume-devices.ts';
import { lifeOfADisk } from './datastore-suite.ts';
import { plainVolumes } from './plain-volume.ts';

const MiB = 1024 * 1024;
let folder: DirectoryResult;
let environment: { VIMG_CONFIG: string };
let driver: ReturnType<typeof plainVolumes>;
let access: { driver: ReturnType<typeof plainVolumes> };

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-volume-' });
  environment = { VIMG_CONFIG: join(folder.path, 'config') };
  driver = plainVolumes();
  access = { driver };
});
afterEach(() => folder.cleanup());

const at = (name: string): string => join(folder.path, name);

async function lun(name: string, size = 64 * MiB): Promise<string> {
  await makeLunFile(at(name), size);
  return at(name);
}

describe('a datastore on devices', () => {
  it('is made on what is empty, and refuses what carries anything, saying what', async () => {
    const [one, two] = [await lun('one'), await lun('two')];
    writeSync(openSync(two, 'r+'), Buffer.from('LABELONE'), 0, 8, 512);
    await expect(createVolumeDatastore('ds1', [one, two], access, environment, false)).rejects.toMatchObject({
      code: 'EXISTS',
      message: 'The device carries volume LVM2',
      path: two,
    });
    expect((await readConfiguration(environment)).datastores).toEqual([]);
    const entry = await createVolumeDatastore('ds1', [one, two], access, environment, true);
    expect(entry).toMatchObject({ kind: 'vims', devices: [{ path: one }, { path: two }] });
    await expect(createVolumeDatastore('ds2', [two], access, environment, false)).rejects.toMatchObject({
      message: 'The device carries volume VIMS',
    });
    await expect(
      createVolumeDatastore('ds1', [await lun('three')], access, environment, false),
    ).rejects.toMatchObject({
      code: 'EXISTS',
    });
  });

  it('is used through the process that has it, and holds disks', async () => {
    await createVolumeDatastore('ds1', [await lun('one')], access, environment, false);
    const other = await openVolumeDatastore(await findDatastore('ds1', environment), access);
    expect(driver.attached.size).toBe(0);
    expect(await other.capacity()).toMatchObject({ capacity: 64 * MiB });
    expect(driver.attached.size).toBe(1);
    const mounted = await MountedDatastores.mount(environment, access);
    try {
      await lifeOfADisk('ds1:', 3);
      const file = await other.files.open('ds1:a', { create: 'exclusive', lock: 'write' });
      expect(await (await mounted.open('ds1')).locks()).toMatchObject([
        { path: 'ds1:a', mode: 'EX', pid: process.pid },
      ]);
      await expect(
        checkVolume(await findDatastore('ds1', environment), access, {
          signal: new AbortController().signal,
          undoPath: at('undo'),
        }),
      ).rejects.toMatchObject({ code: 'LOCKED' });
      await file.close();
    } finally {
      await mounted.close();
      await other.close();
    }
    expect(driver.attached.size).toBe(0);
  });

  it('grows by a device while it is in use', async () => {
    await createVolumeDatastore('ds1', [await lun('one')], access, environment, false);
    const other = await openVolumeDatastore(await findDatastore('ds1', environment), access);
    await other.capacity();
    writeFileSync(at('two'), 'XFSB');
    truncateSync(at('two'), 32 * MiB);
    await expect(extendVolumeDatastore('ds1', at('two'), access, environment, false)).rejects.toMatchObject({
      code: 'EXISTS',
    });
    await extendVolumeDatastore('ds1', at('two'), access, environment, true);
    expect(await other.capacity()).toMatchObject({ capacity: 96 * MiB });
    await other.close();
    const again = await openVolumeDatastore(await findDatastore('ds1', environment), access);
    expect(await again.capacity()).toMatchObject({ capacity: 96 * MiB });
    await again.close();
  });

  it('is attached with the devices that it has by then', async () => {
    await createVolumeDatastore('ds1', [await lun('one')], access, environment, false);
    const entry = await findDatastore('ds1', environment);
    const holder = await openVolumeDatastore(entry, access, environment);
    await holder.capacity();
    const other = await openVolumeDatastore(entry, access, environment);
    await extendVolumeDatastore('ds1', await lun('two'), access, environment, false);
    await other.capacity();
    await holder.close();
    expect(await other.capacity()).toMatchObject({ capacity: 128 * MiB });
    await other.close();
  });

  it('is told apart from others, and added with all its devices', async () => {
    const [one, two] = [await lun('one'), await lun('two')];
    await createVolumeDatastore('ds1', [one, two], access, environment, false);
    await forgetDatastore('ds1', environment);
    await expect(addVolumeDatastore('ds2', [one], access, environment)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await addVolumeDatastore('ds2', [two, one], access, environment);
    await expect(addVolumeDatastore('ds3', [one, two], access, environment)).rejects.toMatchObject({
      message: "It is known here as datastore 'ds2' already",
    });
    const entry = await findDatastore('ds2', environment);
    const both = await openVolumeDatastore(entry, access);
    expect(await both.capacity()).toMatchObject({ capacity: 128 * MiB });
    await both.close();
    renameSync(two, at('gone'));
    const open = await openVolumeDatastore({ ...entry, uuid: entry.uuid.replace(/^./, '0') }, access);
    await expect(open.capacity()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await lun('two');
    await expect(checkVolume(entry, access, { signal: new AbortController().signal })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });
});
