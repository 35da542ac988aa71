/**
 * A device that fails when it is told to: at the n-th read, write or flush, once or from then on.
 *
 * A flush that was made to fail fails for good, as on every device (block-device.ts).
 */
import { VimgError } from '../base/errors.ts';
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, Extent, WriteZeroesOptions } from './block-device.ts';
import { type DeviceOperation, ForwardingDevice } from './forwarding-device.ts';

export interface Fault {
  readonly on: DeviceOperation;
  /** The how-manieth such operation fails, counted from when the fault was added. Default 1: the next. */
  readonly at?: number;
  /** Default `EIO`. */
  readonly error?: 'EIO' | 'ENOSPC';
  /** Fail every such operation from then on. Default false. */
  readonly sticky?: boolean;
  /** Count only operations that touch this range. */
  readonly within?: { readonly offset: number; readonly length: number };
  /** A write that fails has written this many of its bytes. Default 0. */
  readonly partialBytes?: number;
}

interface ArmedFault {
  readonly fault: Fault;
  seen: number;
}

export class FaultDevice extends ForwardingDevice {
  #faults: ArmedFault[] = [];
  #flushError: VimgError | undefined;

  constructor(inner: BlockDevice, faults: readonly Fault[] = []) {
    super(inner);
    for (const fault of faults) this.add(fault);
  }

  add(fault: Fault): void {
    this.#faults.push({ fault, seen: 0 });
  }

  /** Takes back all faults that were added. A flush that failed stays failed. */
  clear(): void {
    this.#faults = [];
  }

  override pread(buffer: Uint8Array, offset: number): MaybePromise<void> {
    this.#mayFail('read', offset, buffer.length);
    return this.inner.pread(buffer, offset);
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    const fault = this.#next('write', offset, buffer.length);
    if (fault === undefined) return this.inner.pwrite(buffer, offset);
    const error = errorOf(fault, this.name, offset);
    if (fault.partialBytes === undefined) throw error;
    return this.#writePart(buffer.subarray(0, fault.partialBytes), offset, error);
  }

  async #writePart(part: Uint8Array, offset: number, error: VimgError): Promise<void> {
    await this.inner.pwrite(part, offset);
    throw error;
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    this.#mayFail('zero', offset, length);
    return this.inner.writeZeroes(offset, length, options);
  }

  override discard(offset: number, length: number): MaybePromise<void> {
    this.#mayFail('discard', offset, length);
    return this.inner.discard(offset, length);
  }

  override flush(): MaybePromise<void> {
    if (this.#flushError !== undefined) throw this.#flushError;
    const fault = this.#next('flush', 0, 0);
    if (fault === undefined) return this.inner.flush();
    this.#flushError = errorOf(fault, this.name, undefined);
    throw this.#flushError;
  }

  override status(offset: number, length: number): MaybePromise<Extent> {
    this.#mayFail('status', offset, length);
    return this.inner.status(offset, length);
  }

  override resize(size: number): MaybePromise<void> {
    this.#mayFail('resize', 0, 0);
    return this.inner.resize(size);
  }

  #mayFail(on: DeviceOperation, offset: number, length: number): void {
    const fault = this.#next(on, offset, length);
    if (fault !== undefined) throw errorOf(fault, this.name, offset);
  }

  /** Counts the operation for every fault that waits for one; returns the first that is due. */
  #next(on: DeviceOperation, offset: number, length: number): Fault | undefined {
    let due: Fault | undefined;
    for (const armed of this.#faults) {
      const { at = 1, sticky = false, within } = armed.fault;
      if (armed.fault.on !== on) continue;
      if (within && (offset >= within.offset + within.length || offset + length <= within.offset)) continue;
      armed.seen++;
      if (armed.seen === at || (sticky && armed.seen > at)) due ??= armed.fault;
    }
    return due;
  }
}

function errorOf(fault: Fault, path: string, offset: number | undefined): VimgError {
  const details = { op: fault.on, path, ...(offset === undefined ? {} : { offset }) };
  if (fault.error === 'ENOSPC') return new VimgError('NO_SPACE', 'No space left on device', details);
  return new VimgError('IO', 'Input/output error', details);
}
