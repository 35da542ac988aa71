/**
 * A device that keeps a log of every change, from which crash states are made: any prefix of the log, less any of the
 * changes that were not yet durable then.
 *
 * A change enters the log when it is issued, since from then on it may reach the medium. A flush enters the log when
 * it succeeded, and marks every change that had completed when the flush was called: those, and only those, are
 * durable in any crash after it. The marks cost one visit a change.
 *
 * Several devices can write one log, so that a moment of it is one moment for all of them. A flush of one device makes
 * only its own changes durable.
 */
import type { MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice, WriteZeroesOptions } from './block-device.ts';
import { ForwardingDevice } from './forwarding-device.ts';

/** What a change did to the device. */
export type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'zero';
      readonly offset: number;
      readonly length: number;
      readonly keepAllocated: boolean;
    }
  | { readonly kind: 'discard'; readonly offset: number; readonly length: number }
  | { readonly kind: 'resize'; readonly size: number };

/** An entry of the log: a change, with the index of the flush that made it durable; or that flush. */
export type RecordedEvent = { readonly device: number } & (
  | (Change & { durableAt: number | undefined })
  | { readonly kind: 'flush' }
);

type RecordedChange = Exclude<RecordedEvent, { kind: 'flush' }>;

export class RecordingDevice extends ForwardingDevice {
  readonly #events: RecordedEvent[];
  readonly #device: number;
  /** Changes that completed and no flush covers yet. */
  #completed: RecordedChange[] = [];

  /**
   * @param log where entries go: that of several devices, or its own
   * @param device which of the devices of the log this is
   */
  constructor(inner: BlockDevice, log: RecordedEvent[] = [], device = 0) {
    super(inner);
    this.#events = log;
    this.#device = device;
  }

  /**
   * The log so far. In a crash after the first `n` entries, the change at index `i < n` is on the medium for certain
   * if its `durableAt` is below `n`; otherwise it may be there, in part or not at all.
   */
  get events(): readonly RecordedEvent[] {
    return this.#events;
  }

  /** Starts a new log and returns the old one. Nothing may be under way, and the log must be its own. */
  takeEvents(): readonly RecordedEvent[] {
    this.#completed = [];
    return this.#events.splice(0);
  }

  override pwrite(buffer: Uint8Array, offset: number): MaybePromise<void> {
    const event = this.#log({ kind: 'write', offset, bytes: buffer.slice() });
    return this.#complete(event, this.inner.pwrite(buffer, offset));
  }

  override writeZeroes(offset: number, length: number, options?: WriteZeroesOptions): MaybePromise<void> {
    const keepAllocated = options?.keepAllocated ?? false;
    const event = this.#log({ kind: 'zero', offset, length, keepAllocated });
    return this.#complete(event, this.inner.writeZeroes(offset, length, options));
  }

  override discard(offset: number, length: number): MaybePromise<void> {
    const event = this.#log({ kind: 'discard', offset, length });
    return this.#complete(event, this.inner.discard(offset, length));
  }

  override resize(size: number): MaybePromise<void> {
    const event = this.#log({ kind: 'resize', size });
    return this.#complete(event, this.inner.resize(size));
  }

  override flush(): MaybePromise<void> {
    const covered = this.#completed;
    this.#completed = [];
    const promise = this.inner.flush();
    if (promise !== undefined) return promise.then(() => this.#flushed(covered));
    this.#flushed(covered);
  }

  #log(change: Change): RecordedChange {
    const event: RecordedChange = { ...change, device: this.#device, durableAt: undefined };
    this.#events.push(event);
    return event;
  }

  /** A change that fails stays in the log as one that may or may not be on the medium. */
  #complete(event: RecordedChange, promise: MaybePromise<void>): MaybePromise<void> {
    if (promise !== undefined) {
      return promise.then(() => {
        this.#completed.push(event);
      });
    }
    this.#completed.push(event);
  }

  #flushed(covered: readonly RecordedChange[]): void {
    for (const event of covered) event.durableAt = this.#events.length;
    this.#events.push({ kind: 'flush', device: this.#device });
  }
}

/** Makes a recorded change on another device. */
export function applyChange(change: Change, device: BlockDevice): MaybePromise<void> {
  switch (change.kind) {
    case 'write':
      return device.pwrite(change.bytes, change.offset);
    case 'zero':
      return device.writeZeroes(change.offset, change.length, { keepAllocated: change.keepAllocated });
    case 'discard':
      return device.discard(change.offset, change.length);
    case 'resize':
      return device.resize(change.size);
  }
}
