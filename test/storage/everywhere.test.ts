/** The same disks in datastores of every kind. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { createDirectoryDatastore } from '../../src/storage/datastore.ts';
import { MountedDatastores } from '../../src/storage/mounted-datastores.ts';
import { lifeOfADisk } from './datastore-suite.ts';

let folder: DirectoryResult;
let environment: { VIMG_CONFIG: string };

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-everywhere-' });
  environment = { VIMG_CONFIG: join(folder.path, 'config') };
});
afterEach(() => folder.cleanup());

describe('a disk lives', () => {
  it('in a directory', async () => {
    mkdirSync(join(folder.path, 'disks'));
    await createDirectoryDatastore('ds1', join(folder.path, 'disks'), environment);
    const mounted = await MountedDatastores.mount(environment);
    try {
      await lifeOfADisk('ds1:', 2);
    } finally {
      await mounted.close();
    }
  });
});
