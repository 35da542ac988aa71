/** How the devices of volumes are reached from the command line: files, block devices, NBD exports. */
import { openFile } from '../device/files.ts';
import { vimsDriver } from '../storage/vims-driver.ts';
import type { DeviceAccess } from '../storage/volume-devices.ts';
import { filePath } from './disk-reference.ts';

export const deviceAccess: DeviceAccess = {
  driver: vimsDriver,
  openExport: async (uri, readOnly) => openFile(await filePath(uri), { readOnly }),
};
