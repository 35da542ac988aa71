/**
 * The writing half of the I/O engine: finds or makes a place in the top layer for each part of a range, fills the
 * edges of new units with what the guest saw there, writes, and only then lets the layer map it.
 */
import { VimgError } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { roundDown, roundUp } from '../base/size.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { type Layer, type LayerWriter, Placement } from './layer.ts';
import { failAfter, type ReadPath, settleAll } from './read-path.ts';

const SECTOR = 512;
const ZEROES = new Uint8Array(64 * 1024);

export class WritePath {
  readonly #layer: Layer;
  readonly #writer: LayerWriter;
  readonly #reads: ReadPath;
  readonly #placements: Placement[] = [];
  readonly #behindSize: number;
  #begun = false;

  /** @param behindSize virtual size of the layer behind `layer`, 0 without one */
  constructor(layer: Layer, writer: LayerWriter, reads: ReadPath, behindSize: number) {
    this.#layer = layer;
    this.#behindSize = behindSize;
    this.#writer = writer;
    this.#reads = reads;
  }

  write(buffer: Uint8Array, offset: number): MaybePromise<void> {
    const begun = this.#begin();
    if (isPromise(begun)) return begun.then(() => this.write(buffer, offset));
    let pending: Promise<void>[] | undefined;
    let at = 0;
    try {
      while (at < buffer.length) {
        const placement = this.#placements.pop() ?? new Placement();
        const placed = this.#writer.place(offset + at, buffer.length - at, placement);
        if (isPromise(placed)) return this.#writeOn(buffer, offset, at, placed, placement, pending);
        const length = placement.length;
        const io = this.#put(buffer.subarray(at, at + length), placement);
        if (isPromise(io)) (pending ??= []).push(io);
        at += length;
      }
    } catch (error) {
      if (!pending) throw error;
      return failAfter(pending, error);
    }
    return pending && settleAll(pending);
  }

  async #writeOn(
    buffer: Uint8Array,
    offset: number,
    from: number,
    waiting: Promise<void>,
    first: Placement,
    pending: Promise<void>[] = [],
  ): Promise<void> {
    let at = from;
    let placement = first;
    let placed: MaybePromise<void> = waiting;
    try {
      for (;;) {
        if (isPromise(placed)) await placed;
        const length = placement.length;
        const io = this.#put(buffer.subarray(at, at + length), placement);
        if (isPromise(io)) pending.push(io);
        at += length;
        if (at >= buffer.length) break;
        placement = this.#placements.pop() ?? new Placement();
        placed = this.#writer.place(offset + at, buffer.length - at, placement);
      }
    } catch (error) {
      return failAfter(pending, error);
    }
    await settleAll(pending);
  }

  /** Writes one part to its place, and maps it. */
  #put(part: Uint8Array, placement: Placement): MaybePromise<void> {
    if (placement.fillBefore > 0 || placement.fillAfter > 0) return this.#putFilled(part, placement);
    const device = placement.device as BlockDevice;
    let io: MaybePromise<void>;
    try {
      io = device.pwrite(part, placement.deviceOffset);
    } catch (error) {
      this.#drop(placement);
      throw error;
    }
    if (isPromise(io)) return this.#finish(io, placement);
    this.#map(placement);
  }

  /** Copy on write of the edges: old content, new data, old content, in one write. */
  async #putFilled(part: Uint8Array, placement: Placement): Promise<void> {
    const { fillBefore, fillAfter } = placement;
    const whole = new Uint8Array(fillBefore + part.length + fillAfter);
    const start = placement.offset - fillBefore;
    const behind = placement.offset + part.length;
    const readable = Math.max(0, Math.min(fillAfter, this.#layer.virtualSize - behind));
    try {
      if (fillBefore > 0) await this.#reads.read(whole.subarray(0, fillBefore), start);
      if (readable > 0) {
        const tail = fillBefore + part.length;
        await this.#reads.read(whole.subarray(tail, tail + readable), behind);
      }
      whole.set(part, fillBefore);
      await (placement.device as BlockDevice).pwrite(whole, placement.deviceOffset - fillBefore);
    } catch (error) {
      this.#drop(placement);
      throw error;
    }
    this.#map(placement);
  }

  async #finish(io: Promise<void>, placement: Placement): Promise<void> {
    const token = this.#writer.hold?.();
    try {
      await io;
    } catch (error) {
      this.#drop(placement);
      throw error;
    } finally {
      if (token !== undefined) this.#writer.release?.(token);
    }
    this.#map(placement);
  }

  #map(placement: Placement): void {
    if (placement.pending) this.#writer.placed(placement);
    placement.pending = false;
    this.#placements.push(placement);
  }

  #drop(placement: Placement): void {
    if (placement.pending) this.#writer.abandon(placement);
    placement.pending = false;
    this.#placements.push(placement);
  }

  /** Whole units by the layer, the edges as written zeroes. */
  zero(offset: number, length: number, keepAllocated: boolean): MaybePromise<void> {
    if (length === 0) return;
    const unit = this.#writer.zeroUnit;
    const end = offset + length;
    const first = roundUp(offset, unit);
    const last = end === this.#layer.virtualSize ? end : roundDown(end, unit);
    if (first >= last) return this.#writeLiteralZeroes(offset, length);
    if (first === offset && last === end) return this.#zeroUnits(first, last - first, keepAllocated);
    return this.#zeroWithEdges(offset, first, last, end, keepAllocated);
  }

  async #zeroWithEdges(
    offset: number,
    first: number,
    last: number,
    end: number,
    keep: boolean,
  ): Promise<void> {
    await this.#writeLiteralZeroes(offset, first - offset);
    await this.#zeroUnits(first, last - first, keep);
    await this.#writeLiteralZeroes(last, end - last);
  }

  #zeroUnits(offset: number, length: number, keepAllocated: boolean): MaybePromise<void> {
    const begun = this.#begin();
    if (isPromise(begun)) return begun.then(() => this.#zeroUnits(offset, length, keepAllocated));
    this.#reads.forgetTop();
    return this.#writer.zero(offset, length, keepAllocated);
  }

  async #writeLiteralZeroes(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += ZEROES.length) {
      await this.write(ZEROES.subarray(0, Math.min(ZEROES.length, length - at)), offset + at);
    }
  }

  /** Frees whole units inside the range; the edges stay as they are. */
  discard(offset: number, length: number): MaybePromise<void> {
    const unit = this.#writer.zeroUnit;
    const end = offset + length;
    const first = roundUp(offset, unit);
    const last = end === this.#layer.virtualSize ? end : roundDown(end, unit);
    if (first < last) return this.#zeroUnits(first, last - first, false);
  }

  async writeCompressed(offset: number, unit: Uint8Array): Promise<void> {
    if (!this.#writer.writeCompressed) {
      throw new VimgError('UNSUPPORTED', `The format ${this.#layer.format} cannot hold compressed data`);
    }
    await this.#begin();
    const stored = await this.#writer.writeCompressed(offset, unit);
    this.#reads.forgetTop(); // also what was read while the unit was being compressed: it may lie where that did
    if (!stored) await this.write(unit, offset);
  }

  flush(): MaybePromise<void> {
    return this.#writer.flush();
  }

  async resize(size: number): Promise<void> {
    await this.#begin();
    this.#reads.forgetTop();
    const oldSize = this.#layer.virtualSize;
    if (size > oldSize && oldSize % this.#writer.zeroUnit !== 0 && oldSize >= SECTOR) {
      // store the last unit whole, so that what the layers behind hold past the old end stays hidden
      const sector = new Uint8Array(SECTOR);
      await this.#reads.read(sector, oldSize - SECTOR);
      await this.write(sector, oldSize - SECTOR);
    }
    await this.#writer.resize(size, this.#behindSize);
  }

  #begin(): MaybePromise<void> {
    if (this.#begun) return;
    const begun = this.#writer.begin();
    if (!isPromise(begun)) {
      this.#begun = true;
      return;
    }
    return begun.then(() => {
      this.#begun = true;
    });
  }
}
