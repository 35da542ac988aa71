/** Where the file of a disk is on the medium that is recorded: the medium itself, or a file of a volume on it. */
import type { BlockDevice } from '../../src/device/block-device.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { ForwardingDevice } from '../../src/device/forwarding-device.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { formatVolume } from '../../src/vims/format-volume.ts';
import { VimsVolume } from '../../src/vims/volume.ts';

const MiB = 1024 * 1024;
const PATH = 'ds1:disk.vvd';

export interface DiskPlace {
  /** A medium with the file, which is empty. */
  blank(): Promise<MemoryDevice>;
  /** The file on a medium. What it needs of the medium is let go when it is closed. */
  open(medium: BlockDevice): Promise<BlockDevice>;
}

/** The file is the medium. */
export const ON_THE_MEDIUM: DiskPlace = {
  blank: async () => MemoryDevice.create(0, { name: 'disk' }),
  open: async (medium) => medium,
};

/** A file of a volume that is attached as long as the file is open. */
class FileOfVolume extends ForwardingDevice {
  readonly #volume: VimsVolume;

  constructor(file: DiskFile, volume: VimsVolume) {
    super(file);
    this.#volume = volume;
  }

  override async close(): Promise<void> {
    try {
      await this.inner.close();
    } finally {
      await this.#volume.detach();
    }
  }
}

async function openInVolume(medium: BlockDevice, create: boolean): Promise<BlockDevice> {
  const volume = await VimsVolume.attach('ds1', [medium]);
  try {
    const { readOnly } = medium;
    const file = await volume.files.open(PATH, create ? { create: 'exclusive' } : { readOnly });
    return new FileOfVolume(file, volume);
  } catch (error) {
    await volume.detach();
    throw error;
  }
}

/** The file is in a volume, whose journal has its own promises to keep. */
export const IN_A_VOLUME: DiskPlace = {
  blank: async () => {
    const medium = MemoryDevice.create(64 * MiB, { name: 'lun' });
    await formatVolume([medium]);
    await (await openInVolume(medium, true)).close();
    return medium;
  },
  open: (medium) => openInVolume(medium, false),
};

/** What the file holds, in memory. */
export async function fileContent(medium: MemoryDevice, place: DiskPlace): Promise<MemoryDevice> {
  if (place === ON_THE_MEDIUM) return medium;
  const file = await place.open(medium.fork({ readOnly: true }));
  try {
    const bytes = new Uint8Array(file.size);
    await file.pread(bytes, 0);
    return MemoryDevice.from(bytes);
  } finally {
    await file.close();
  }
}
