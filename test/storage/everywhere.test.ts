/** The same disks in datastores of every kind, on real storage. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DirectoryResult, dir } from 'tmp-promise';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { NbdDevice } from '../../src/nbd/client/nbd-device.ts';
import { createDirectoryDatastore } from '../../src/storage/datastore.ts';
import { MountedDatastores } from '../../src/storage/mounted-datastores.ts';
import { vimsDriver } from '../../src/storage/vims-driver.ts';
import { createVolumeDatastore } from '../../src/storage/volume-datastore.ts';
import { type DeviceAccess, makeLunFile } from '../../src/storage/volume-devices.ts';
import { requireLoopDevice, requireTool } from '../reference-tools.ts';
import { lifeOfADisk } from './datastore-suite.ts';
import { iscsiLun, type Lun, loopDevice, nbdkitLun, storageDaemonLun } from './lun-servers.ts';

const MiB = 1024 * 1024;
const LUN_SIZE = 256 * MiB;
const access: DeviceAccess = {
  driver: vimsDriver,
  openExport: (uri, readOnly) => NbdDevice.open(uri, { readOnly }),
};

let folder: DirectoryResult;
let environment: { VIMG_CONFIG: string };
const luns: Lun[] = [];

beforeEach(async () => {
  folder = await dir({ unsafeCleanup: true, prefix: 'vimg-everywhere-' });
  environment = { VIMG_CONFIG: join(folder.path, 'config') };
});
afterEach(async () => {
  for (const lun of luns.splice(0)) await lun.stop();
  await folder.cleanup();
});

async function file(name: string, size = LUN_SIZE): Promise<string> {
  const path = join(folder.path, name);
  await makeLunFile(path, size);
  return path;
}

async function lives(seed: number): Promise<void> {
  const mounted = await MountedDatastores.mount(environment, access);
  try {
    await lifeOfADisk('ds1:', seed);
  } finally {
    await mounted.close();
  }
}

async function livesOn(paths: readonly string[], seed: number): Promise<void> {
  await createVolumeDatastore('ds1', paths, access, environment, false);
  await lives(seed);
  await lives(seed + 100); // again, in the volume as the first life left it
}

async function served(lun: Promise<Lun>): Promise<string> {
  const found = await lun;
  luns.push(found);
  return found.path;
}

describe('a disk lives', () => {
  it('in a directory', async () => {
    mkdirSync(join(folder.path, 'disks'));
    await createDirectoryDatastore('ds1', join(folder.path, 'disks'), environment);
    await lives(2);
  });

  it('on a file that stands for a LUN', async () => livesOn([await file('lun')], 3));

  it('on three joined devices, each too small for it', async () =>
    livesOn([await file('one', 48 * MiB), await file('two', 40 * MiB), await file('three', 64 * MiB)], 4));

  it.skipIf(requireLoopDevice())('on a loop device', async () => {
    const loop = loopDevice(await file('lun'));
    luns.push(loop);
    await livesOn([loop.path], 5);
  });

  it.skipIf(requireTool('nbdkit'))('on an NBD export of nbdkit', async () =>
    livesOn([await served(nbdkitLun(await file('lun'), folder.path))], 6),
  );

  it.skipIf(requireTool('qemu-storage-daemon'))('on an NBD export of qemu-storage-daemon', async () => {
    const lun = storageDaemonLun(`driver=file,filename=${await file('lun')}`, folder.path);
    await livesOn([await served(lun)], 7);
  });

  it.skipIf(requireTool('tgtd', 'tgtadm', 'qemu-storage-daemon'))('on an iSCSI LUN', async () =>
    livesOn([await served(iscsiLun(await file('lun'), folder.path))], 8),
  );

  it.skipIf(requireTool('nbdkit'))('on a file and an NBD export, joined', async () => {
    const remote = await served(nbdkitLun(await file('remote', 64 * MiB), folder.path));
    await livesOn([await file('local', 64 * MiB), remote], 9);
  });
});
