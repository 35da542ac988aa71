/**
 * A model of a disk: plain buffers that say what a guest must read, for the disk itself and for each of its
 * snapshots. A snapshot is a copy, a clone is a copy: what layers do with maps the model does with memory.
 */
import { ok, strictEqual } from 'node:assert/strict';
import type { BlockDevice } from '../device/block-device.ts';
import { sameBytes } from './device-model.ts';

/** Bytes compared at once. */
const COMPARE = 4 * 1024 * 1024;

export interface ModelDiskOptions {
  /** What is stored where nothing was written yet. Default: nothing, zeroes. */
  readonly content?: Uint8Array;
  /** A discard zeroes the whole units in its range and leaves the rest. Default 1. */
  readonly discardUnit?: number;
}

export class ModelDisk {
  readonly #discardUnit: number;
  readonly #snapshots = new Map<string, Uint8Array>();
  #content: Uint8Array;

  constructor(size: number, options: ModelDiskOptions = {}) {
    this.#discardUnit = options.discardUnit ?? 1;
    this.#content = resized(options.content ?? new Uint8Array(0), size);
  }

  get size(): number {
    return this.#content.length;
  }

  /** What the guest reads. Not to be changed. */
  get content(): Uint8Array {
    return this.#content;
  }

  /** Names of the snapshots, oldest first. */
  get snapshots(): readonly string[] {
    return [...this.#snapshots.keys()];
  }

  write(offset: number, data: Uint8Array): void {
    this.#content.set(data, offset);
  }

  zero(offset: number, length: number): void {
    this.#content.fill(0, offset, offset + length);
  }

  /** The end of the disk ends a unit as well. */
  discard(offset: number, length: number): void {
    const unit = this.#discardUnit;
    const end = offset + length;
    const first = Math.ceil(offset / unit) * unit;
    const last = end === this.size ? end : Math.floor(end / unit) * unit;
    if (first < last) this.#content.fill(0, first, last);
  }

  /** What is cut off is gone; what is added reads as zeroes, whatever stands behind. */
  resize(size: number): void {
    this.#content = resized(this.#content, size);
  }

  takeSnapshot(name: string): void {
    this.#snapshots.set(name, this.#content.slice());
  }

  /** The disk reads as the snapshot again, with its size. */
  revert(name: string): void {
    this.#content = this.#snapshot(name).slice();
  }

  deleteSnapshot(name: string): void {
    this.#snapshot(name);
    this.#snapshots.delete(name);
  }

  /** A disk of its own that starts as this one is, or as a snapshot of it was. */
  clone(snapshot?: string): ModelDisk {
    const content = snapshot === undefined ? this.#content : this.#snapshot(snapshot);
    return new ModelDisk(content.length, { content, discardUnit: this.#discardUnit });
  }

  #snapshot(name: string): Uint8Array {
    const content = this.#snapshots.get(name);
    ok(content !== undefined, `the model has a snapshot '${name}'`);
    return content;
  }

  /** @throws AssertionError unless `disk` reads like this in the range, and calls zero only what is */
  async compare(disk: BlockDevice, offset = 0, length: number = this.size - offset): Promise<void> {
    strictEqual(disk.size, this.size, 'size');
    const buffer = new Uint8Array(Math.min(length, COMPARE));
    for (let at = offset; at < offset + length; at += COMPARE) {
      const part = buffer.subarray(0, Math.min(COMPARE, offset + length - at));
      part.fill(0xdd);
      await disk.pread(part, at);
      sameBytes(part, this.#content.subarray(at, at + part.length), `read of ${part.length} at ${at}`);
    }
    await this.#compareStatus(disk, offset, length);
  }

  async #compareStatus(disk: BlockDevice, offset: number, length: number): Promise<void> {
    for (let at = offset; at < offset + length; ) {
      const extent = await disk.status(at, offset + length - at);
      strictEqual(extent.offset, at, 'an extent starts where it was asked for');
      ok(extent.length >= 1 && at + extent.length <= offset + length, `length ${extent.length} at ${at}`);
      if (extent.zero) {
        const found = firstNonZero(this.#content, at, at + extent.length);
        ok(found === -1, `byte ${found} is called zero and is ${this.#content[found]}`);
      }
      at += extent.length;
    }
  }
}

function resized(content: Uint8Array, size: number): Uint8Array {
  const next = new Uint8Array(size);
  next.set(content.subarray(0, size));
  return next;
}

function firstNonZero(bytes: Uint8Array, from: number, to: number): number {
  for (let at = from; at < to; at++) if (bytes[at] !== 0) return at;
  return -1;
}
