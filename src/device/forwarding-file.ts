/** The base of filters on open files: name and lock are the file's. */
import type { BlockDevice } from './block-device.ts';
import type { DiskFile } from './file-system.ts';
import { ForwardingDevice } from './forwarding-device.ts';

export class ForwardingFile extends ForwardingDevice implements DiskFile {
  protected readonly file: DiskFile;

  /** @param device what transfers go to: the file, or a filter on it */
  constructor(file: DiskFile, device: BlockDevice = file) {
    super(device);
    this.file = file;
  }

  override get name(): string {
    return this.file.name;
  }

  override set name(name: string) {
    this.file.name = name;
  }

  get locked(): boolean {
    return this.file.locked;
  }

  changeLock(mode: Parameters<DiskFile['changeLock']>[0]): Promise<void> {
    return this.file.changeLock(mode);
  }
}
