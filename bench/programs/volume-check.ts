/** Checks the volume on a device: `volume-check PATH`. */
import { FileDevice } from '../../src/device/file-device.ts';
import { checkVolume } from '../../src/vims/check-volume.ts';

const device = await FileDevice.open(process.argv[2] ?? '', { readOnly: true, blocking: false });
const { findings } = await checkVolume([device]);
await device.close();
if (findings.length > 0) throw new Error(findings[0]?.message);
