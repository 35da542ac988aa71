/**
 * A place in memory whose files are opened through a hook: to be late, to fail, to be recorded. What a flush that fails
 * should have made durable is lost, as when a kernel drops the pages that it could not write.
 */
import { VimgError } from '../../src/base/errors.ts';
import type { BlockDevice, WriteZeroesOptions } from '../../src/device/block-device.ts';
import type { FileDeviceOptions } from '../../src/device/file-device.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { ForwardingFile } from '../../src/device/forwarding-file.ts';
import { MemoryDevice } from '../../src/device/memory-device.ts';
import { RecordingDevice } from '../../src/device/recording-device.ts';
import { MemoryFiles } from '../../src/testing/memory-files.ts';

/** What a file does next. */
export type FileOperation = 'read' | 'write' | 'zero' | 'flush';

/** Asked before each operation of a file; what it throws is what the operation fails with. */
export type FileHook = (
  file: DiskFile,
  operation: FileOperation,
  offset: number,
) => Promise<void> | undefined;

/** A file that was recorded from when it was opened for writing. */
export interface RecordedFile {
  readonly start: MemoryDevice;
  readonly device: RecordingDevice;
}

export class HookedFiles extends MemoryFiles {
  hook: FileHook = () => undefined;
  /** The next open of this path for writing is recorded. */
  toRecord: string | undefined;
  recorded: RecordedFile | undefined;

  override async open(path: string, options: FileDeviceOptions): Promise<DiskFile> {
    const file = await super.open(path, options);
    if (this.toRecord !== path || options.readOnly === true) return new HookedFile(file, file, this);
    this.toRecord = undefined;
    const device = new RecordingDevice(file);
    this.recorded = { start: MemoryDevice.from(await this.bytes(path)), device };
    return new HookedFile(device, file, this);
  }

  /** What a file holds now. */
  async bytes(path: string): Promise<Uint8Array> {
    const file = await super.open(path, { readOnly: true });
    const bytes = new Uint8Array(file.size);
    await file.pread(bytes, 0);
    await file.close();
    return bytes;
  }

  /** Makes a file that holds this. */
  async put(path: string, bytes: Uint8Array): Promise<void> {
    const file = await super.open(path, { create: 'exclusive' });
    await file.pwrite(bytes, 0);
    await file.close();
  }
}

class HookedFile extends ForwardingFile {
  readonly #files: HookedFiles;
  /** What was there before each write since the last flush. */
  #unflushed: { readonly offset: number; readonly former: Uint8Array }[] = [];
  #lost = false;

  constructor(device: BlockDevice, file: DiskFile, files: HookedFiles) {
    super(file, device);
    this.#files = files;
  }

  override async pread(buffer: Uint8Array, offset: number): Promise<void> {
    await this.#files.hook(this, 'read', offset);
    await this.inner.pread(buffer, offset);
  }

  override async pwrite(buffer: Uint8Array, offset: number): Promise<void> {
    await this.#files.hook(this, 'write', offset);
    await this.#keep(offset, buffer.length);
    await this.inner.pwrite(buffer, offset);
  }

  override async writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): Promise<void> {
    await this.#files.hook(this, 'zero', offset);
    await this.#keep(offset, length);
    await this.inner.writeZeroes(offset, length, options);
  }

  async #keep(offset: number, length: number): Promise<void> {
    const former = new Uint8Array(length);
    const end = Math.min(offset + length, this.inner.size);
    if (end > offset) await this.inner.pread(former.subarray(0, end - offset), offset);
    this.#unflushed.push({ offset, former });
  }

  override async flush(): Promise<void> {
    if (this.#lost) throw new VimgError('IO', 'An earlier flush failed', { path: this.name });
    const covered = this.#unflushed.length;
    try {
      await this.#files.hook(this, 'flush', 0);
    } catch (error) {
      this.#lost = true;
      for (const { offset, former } of this.#unflushed.toReversed()) await this.inner.pwrite(former, offset);
      throw error;
    }
    await this.inner.flush();
    this.#unflushed = this.#unflushed.slice(covered);
  }
}
