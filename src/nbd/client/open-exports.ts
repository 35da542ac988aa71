/**
 * The exports that this process has open as files: one device for all who have the same one open at a time. A server that
 * takes one client (`qemu-nbd` unless told otherwise, some filters of nbdkit) would turn the second one away.
 *
 * Between one who closes it and the next who opens it the device goes, unless devices are kept: a command opens a disk for
 * a look at its format and then for the work, and such a server has ended by then.
 */
import { VimgError } from '../../base/errors.ts';
import type { MaybePromise } from '../../base/maybe-promise.ts';
import type { WriteZeroesOptions } from '../../device/block-device.ts';
import type { DiskFile } from '../../device/file-system.ts';
import { ForwardingDevice } from '../../device/forwarding-device.ts';
import { checkDiscard, checkResize, checkWritable } from '../../device/range-check.ts';
import { NbdDevice } from './nbd-device.ts';
import { canonicalUri, parseNbdUri } from './uri.ts';

interface OpenExport {
  readonly device: Promise<NbdDevice>;
  users: number;
}

export class OpenExports {
  /** By URI. */
  readonly #exports = new Map<string, OpenExport>();
  #keeping = false;

  /** @throws VimgError as {@link NbdDevice.open} */
  async open(uri: string, readOnly: boolean): Promise<DiskFile> {
    const name = canonicalUri(parseNbdUri(uri));
    const { entry, device } = await this.#enter(name);
    if (device.readOnly && !readOnly) {
      await this.#leave(name, entry);
      throw new VimgError('READ_ONLY', 'The server lets it only be read', { op: 'open', path: name });
    }
    return new ExportFile(device, readOnly, () => this.#leave(name, entry));
  }

  /** Bytes of an export that is open. */
  async sizeOf(uri: string): Promise<number | undefined> {
    const entry = this.#exports.get(canonicalUri(parseNbdUri(uri)));
    if (!entry) return undefined;
    const device = await entry.device.catch(() => undefined); // who opens it is told
    return device?.hasFailed ? undefined : device?.size;
  }

  /** From here on devices stay when nobody has them open, until the end that is returned. */
  keep(): () => Promise<void> {
    this.#keeping = true;
    return async () => {
      this.#keeping = false;
      for (const [name, entry] of this.#exports) {
        entry.users++;
        await this.#leave(name, entry);
      }
    };
  }

  /** One that failed for good is left to those who have it: it is connected to anew. */
  async #enter(name: string): Promise<{ entry: OpenExport; device: NbdDevice }> {
    for (;;) {
      const entry = this.#exports.get(name) ?? { device: NbdDevice.open(name), users: 0 };
      this.#exports.set(name, entry);
      entry.users++;
      try {
        const device = await entry.device;
        if (!device.hasFailed) return { entry, device };
      } catch (error) {
        this.#forget(name, entry);
        throw error;
      }
      this.#forget(name, entry);
      await this.#leave(name, entry);
    }
  }

  #forget(name: string, entry: OpenExport): void {
    if (this.#exports.get(name) === entry) this.#exports.delete(name);
  }

  async #leave(name: string, entry: OpenExport): Promise<void> {
    entry.users--;
    const isKept = this.#keeping && this.#exports.get(name) === entry;
    if (entry.users > 0 || isKept) return;
    this.#forget(name, entry);
    await (await entry.device).close();
  }
}

/** An export as one of those see it who have it open. */
class ExportFile extends ForwardingDevice implements DiskFile {
  readonly locked = false;
  readonly #readOnly: boolean;
  readonly #leave: () => Promise<void>;
  #name: string;
  #closed: Promise<void> | undefined;

  constructor(device: NbdDevice, readOnly: boolean, leave: () => Promise<void>) {
    super(device);
    this.#name = device.name;
    this.#readOnly = readOnly;
    this.#leave = leave;
  }

  override get name(): string {
    return this.#name;
  }

  override set name(name: string) {
    this.#name = name;
  }

  override get readOnly(): boolean {
    return this.#readOnly;
  }

  async changeLock(): Promise<void> {
    // there are none
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    checkWritable(this, 'write', offset, buffer.length);
    return this.inner.pwrite(buffer, offset);
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    checkWritable(this, 'write zeroes', offset, length);
    return this.inner.writeZeroes(offset, length, options);
  }

  override discard(offset: number, length: number): MaybePromise<void> {
    checkDiscard(this, offset, length);
    return this.inner.discard(offset, length);
  }

  override resize(size: number): MaybePromise<void> {
    checkResize(this, size, false);
  }

  override close(): Promise<void> {
    this.#closed ??= this.#leave();
    return this.#closed;
  }
}
