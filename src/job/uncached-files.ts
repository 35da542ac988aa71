/**
 * Files that a copy leaves no trace of in the host's cache (cache modes `none` and `directsync`): what was moved is
 * forgotten every so often, so that a large copy does not push out what others use. Only what is on the disk can be
 * forgotten: a target has to be flushed before.
 */
import type { BlockDevice } from '../device/block-device.ts';
import { FileDevice } from '../device/file-device.ts';
import { JoinedDevice } from '../device/joined-device.ts';
import { DiskImage } from '../image/disk-image.ts';

/** Bytes moved between two times. */
const INTERVAL = 32 * 1024 * 1024;

export class UncachedFiles {
  readonly #files: readonly FileDevice[];
  #moved = 0;

  /** @param device files of the host in it are kept out of the cache; other kinds of devices have none */
  constructor(device: BlockDevice) {
    this.#files = filesIn(device);
  }

  /** Counts bytes that were moved, and forgets what is cached now and then. */
  moved(bytes: number): void {
    this.#moved += bytes;
    if (this.#moved >= INTERVAL) this.forget();
  }

  forget(): void {
    this.#moved = 0;
    for (const file of this.#files) file.forgetCached();
  }
}

function filesIn(device: BlockDevice): FileDevice[] {
  if (device instanceof FileDevice) return [device];
  if (device instanceof JoinedDevice) return device.devices.flatMap(filesIn);
  return device instanceof DiskImage ? device.layers.flatMap(({ file }) => filesIn(file)) : [];
}
