/** VIMS volumes (src/vims) as what datastores on devices are made of. */
import { checkVolume } from '../vims/check-volume.ts';
import { formatVolume } from '../vims/format-volume.ts';
import { inspectVolume, inspectVolumeBlock, looksLikeVolume } from '../vims/inspect-volume.ts';
import { readSuperblock } from '../vims/superblock.ts';
import { undoRepair } from '../vims/undo-file.ts';
import { VimsVolume } from '../vims/volume.ts';
import type { VolumeDriver, VolumeInspector } from './volume.ts';

export const vimsDriver: VolumeDriver & VolumeInspector = {
  async identify(device) {
    const found = await readSuperblock(device);
    return found && { uuid: found.uuid, devices: found.devices.length, index: found.deviceIndex };
  },
  format: (devices) => formatVolume(devices),
  attach: (place, devices) => VimsVolume.attach(place, devices),
  check: checkVolume,
  undoRepair,
  looksLike: looksLikeVolume,
  inspect: inspectVolume,
  inspectBlock: inspectVolumeBlock,
};
