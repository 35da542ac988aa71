/** Makes files in a folder of a new volume, durable at the end: `volume-names COUNT PATH`. */
import { FileDevice } from '../../src/device/file-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const [count = '', path = ''] = process.argv.slice(2);
const device = await FileDevice.open(path, { lock: 'write', blocking: false });
await formatVolume([device]);
const volume = await VimsVolume.attach('bench', [device]);
await volume.files.makeFolder('bench:vm');
for (let i = 0; i < Number(count); i++) {
  const file = await volume.files.open(`bench:vm/disk-${i}.vvd`, { create: 'exclusive' });
  await file.close();
}
await volume.files.syncFolder('bench:vm');
await volume.detach();
await device.close();
