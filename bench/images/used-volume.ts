/** A volume on a sparse file of any size, with disks in it: all mapped, so that the whole table of each is walked. */
import { truncate, writeFile } from 'node:fs/promises';
import { FileDevice } from '../../src/device/file-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

/** @param disks how many, of `diskSize` bytes each, in space that is taken and not written */
export async function makeUsedVolume(
  path: string,
  size: number,
  disks: number,
  diskSize: number,
): Promise<void> {
  await writeFile(path, '');
  await truncate(path, size);
  const device = await FileDevice.open(path, { lock: 'write', blocking: false });
  await formatVolume([device]);
  const volume = await VimsVolume.attach('bench', [device]);
  for (let i = 0; i < disks; i++) {
    const file = await volume.files.open(`bench:disk-${i}.raw`, { create: 'exclusive' });
    await file.resize(diskSize);
    await file.writeZeroes(0, diskSize, { keepAllocated: true });
    await file.close();
  }
  await volume.detach();
  await device.close();
}
