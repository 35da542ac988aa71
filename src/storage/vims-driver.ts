/** VIMS volumes (src/vims) as what datastores on devices are made of. */
import { VimgError } from '../base/errors.ts';
import { formatVolume } from '../vims/format-volume.ts';
import { readSuperblock } from '../vims/superblock.ts';
import { VimsVolume } from '../vims/volume.ts';
import type { VolumeDriver } from './volume.ts';

export const vimsDriver: VolumeDriver = {
  async identify(device) {
    const found = await readSuperblock(device);
    return found && { uuid: found.uuid, devices: found.devices.length, index: found.deviceIndex };
  },
  format: (devices) => formatVolume(devices),
  attach: (place, devices) => VimsVolume.attach(place, devices),
  check: () => Promise.reject(new VimgError('UNSUPPORTED', 'Volumes cannot be checked yet')),
};
