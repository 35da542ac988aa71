/**
 * The least that can be called a volume: each device says whose it is, and the files are kept in this process. For tests
 * of what datastores make of volumes, whatever the volume does itself.
 */
import { newUuid } from '../../src/binary/uuid.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { VolumeDriver, VolumeIdentity } from '../../src/storage/volume.ts';
import { MemoryFiles } from '../../src/testing/memory-files.ts';

const LABEL = 512;

async function readLabel(device: BlockDevice): Promise<VolumeIdentity | undefined> {
  const bytes = Buffer.alloc(LABEL);
  await device.pread(bytes, 0);
  const text = bytes.toString().replace(/\0+$/, '');
  return text.startsWith('{"uuid"') ? (JSON.parse(text) as VolumeIdentity) : undefined;
}

async function writeLabels(uuid: string, devices: readonly BlockDevice[]): Promise<void> {
  for (const [index, device] of devices.entries()) {
    const label = Buffer.alloc(LABEL);
    label.write(JSON.stringify({ uuid, devices: devices.length, index }));
    await device.pwrite(label, 0);
    await device.flush();
  }
}

/** A driver whose volumes live as long as it does. */
export function plainVolumes(): VolumeDriver & { readonly attached: Set<string> } {
  const volumes = new Map<string, MemoryFiles>();
  const attached = new Set<string>();
  return {
    attached,
    identify: readLabel,
    async format(devices) {
      const uuid = newUuid();
      await writeLabels(uuid, devices);
      volumes.set(uuid, new MemoryFiles());
      return uuid;
    },
    async attach(_place, given) {
      const devices = [...given];
      const uuid = (await readLabel(devices[0] as BlockDevice))?.uuid ?? '';
      attached.add(uuid);
      const size = (): number => devices.reduce((sum, device) => sum + device.size, 0);
      return {
        files: volumes.get(uuid) as MemoryFiles,
        capacity: () => Promise.resolve({ capacity: size(), used: 0, free: size() }),
        async addDevice(device) {
          devices.push(device);
          await writeLabels(uuid, devices);
        },
        grow: () => Promise.resolve(0),
        check: () => Promise.resolve({ findings: [], repaired: 0 }),
        detach: () => {
          attached.delete(uuid);
          return Promise.resolve();
        },
      };
    },
    check: () => Promise.resolve({ findings: [], repaired: 0 }),
    undoRepair: () => Promise.resolve(),
  };
}
