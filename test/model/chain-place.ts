/** Where the files of a chain are: in memory, or in a datastore on a volume, whose device is a file that stands for a LUN. */
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterAll, beforeAll, expect } from 'vitest';
import type { BlockDevice } from '../../src/device/block-device.ts';
import { listFolder, openFile, removeFile } from '../../src/device/files.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { MountedDatastores } from '../../src/storage/mounted-datastores.ts';
import { vimsDriver } from '../../src/storage/vims-driver.ts';
import type { VolumeDriver } from '../../src/storage/volume.ts';
import { createVolumeDatastore } from '../../src/storage/volume-datastore.ts';
import { makeLunFile } from '../../src/storage/volume-devices.ts';
import { ShuffleDevice } from '../../src/testing/index.ts';

const LUN_SIZE = 1024 * 1024 * 1024;

/** A file of a chain. It is closed with the disk that it was opened for, and can be opened again. */
export interface ChainFile {
  open(readOnly: boolean): Promise<BlockDevice>;
  remove(): Promise<void>;
}

export interface ChainPlace {
  /** A new file, empty. */
  make(name: string): Promise<ChainFile>;
}

export const IN_MEMORY: ChainPlace = {
  async make(name) {
    const device = MemoryDevice.create(0, { name });
    return { open: async () => device, remove: async () => undefined };
  },
};

/**
 * A datastore for the tests of a `describe`: `ds1:`. The volume must be sound when they are done, and nothing left in it.
 *
 * @param lunSeed given, the LUN completes what it is asked for in an order of its own
 */
export function datastoreForTests(lunSeed?: number): ChainPlace {
  const access = { driver: lunSeed === undefined ? vimsDriver : shuffling(lunSeed) };
  let folder: DirectoryResult;
  let mounted: MountedDatastores;
  let made = 0;
  beforeAll(async () => {
    folder = await dir({ unsafeCleanup: true, prefix: 'vimg-model-ds-' });
    const lun = join(folder.path, 'lun');
    const environment = { VIMG_CONFIG: join(folder.path, 'config') };
    await makeLunFile(lun, LUN_SIZE);
    await createVolumeDatastore('ds1', [lun], access, environment, false);
    mounted = await MountedDatastores.mount(environment, access);
  });
  afterAll(async () => {
    try {
      const { files, checkVolume } = await mounted.open('ds1');
      expect(await checkVolume?.()).toMatchObject({ findings: [] });
      expect(await files.list('ds1:')).toEqual([]);
    } finally {
      await mounted.close();
      await folder.cleanup();
    }
  });
  return {
    async make(name) {
      const path = `ds1:${made++}-${name}`;
      await (await openFile(path, { create: 'exclusive' })).close();
      return {
        open: (readOnly) => openFile(path, { readOnly, lock: readOnly ? 'read' : 'write' }),
        remove: () => removeFile(path),
      };
    },
  };
}

/** Volumes whose devices complete in any order. */
function shuffling(seed: number): VolumeDriver {
  return {
    ...vimsDriver,
    attach: (place, devices) =>
      vimsDriver.attach(
        place,
        devices.map((device, i) => new ShuffleDevice(device, seed + i)),
      ),
  };
}

/** Removes all files of a folder. */
export async function emptyFolder(folder: string): Promise<void> {
  for (const name of await listFolder(folder)) await removeFile(`${folder}/${name}`);
}
