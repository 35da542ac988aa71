/** What a file is compared with: a file with the same content that was written from front to back on an empty volume. */
import type { BlockDevice } from '../../src/device/block-device.ts';
import { MiB } from '../work.ts';

const buffer: Buffer = Buffer.alloc(MiB);

/** Writes to `target` what `source` has, and leaves its holes. */
export async function copyParts(source: BlockDevice, target: BlockDevice): Promise<void> {
  await target.resize(source.size);
  for (let offset = 0; offset < source.size; ) {
    const { zero, length } = await source.status(offset, Math.min(MiB, source.size - offset));
    if (!zero) {
      await source.pread(buffer.subarray(0, length), offset);
      await target.pwrite(buffer.subarray(0, length), offset);
    }
    offset += length;
  }
}

export async function readInOrder(file: BlockDevice): Promise<void> {
  for (let offset = 0; offset < file.size; offset += MiB) {
    await file.pread(buffer.subarray(0, Math.min(MiB, file.size - offset)), offset);
  }
}
