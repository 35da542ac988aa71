/** The reading half of the I/O engine: finds each part of a range, then moves its bytes, as many at once as it can. */
import { invariant } from '../base/errors.ts';
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { DiskCaches } from './cache-statistics.ts';
import type { ChainResolver } from './chain-resolver.ts';
import { BlockCache } from './decompressed-cache.ts';
import { COMPRESSED, DATA, type Layer, Location } from './layer.ts';

export class ReadPath {
  readonly #resolver: ChainResolver;
  readonly #caches: DiskCaches;
  readonly #decompressed = new BlockCache();
  /** Locations not in use: reading in one tick allocates nothing. */
  readonly #locations: Location[] = [];

  constructor(resolver: ChainResolver, caches: DiskCaches) {
    this.#resolver = resolver;
    this.#caches = caches;
  }

  /** Fills `buffer` with what the guest sees at `offset`. The range lies inside the disk. */
  read(buffer: Uint8Array, offset: number): MaybePromise<void> {
    const location = this.#locations.pop() ?? new Location();
    let pending: Promise<void>[] | undefined;
    let at = 0;
    try {
      while (at < buffer.length) {
        const depth = this.#resolver.resolve(offset + at, buffer.length - at, location);
        if (isPromise(depth)) return this.#readOn(buffer, offset, at, depth, location, pending);
        const part = this.#part(buffer, at, location.length);
        const io = this.#move(part, offset + at, location, depth);
        if (isPromise(io)) (pending ??= []).push(io);
        at += location.length;
      }
    } catch (error) {
      if (!pending) throw error;
      return failAfter(pending, error);
    }
    this.#locations.push(location);
    return pending && settleAll(pending);
  }

  /** The rest of a read whose mapping had to be waited for. */
  async #readOn(
    buffer: Uint8Array,
    offset: number,
    from: number,
    waiting: Promise<number>,
    location: Location,
    pending: Promise<void>[] = [],
  ): Promise<void> {
    let at = from;
    let depth: MaybePromise<number> = waiting;
    try {
      for (;;) {
        const found = isPromise(depth) ? await depth : depth;
        const io = this.#move(this.#part(buffer, at, location.length), offset + at, location, found);
        if (isPromise(io)) pending.push(io);
        at += location.length;
        if (at >= buffer.length) break;
        depth = this.#resolver.resolve(offset + at, buffer.length - at, location);
      }
    } catch (error) {
      return failAfter(pending, error);
    }
    this.#locations.push(location);
    await settleAll(pending);
  }

  #part(buffer: Uint8Array, at: number, length: number): Uint8Array {
    return at === 0 && length === buffer.length ? buffer : buffer.subarray(at, at + length);
  }

  #move(part: Uint8Array, offset: number, location: Location, depth: number): MaybePromise<void> {
    switch (location.kind) {
      case DATA: {
        const layer = this.#resolver.layers[depth] as Layer;
        const device = location.device as BlockDevice;
        const io = location.verify
          ? verifiedRead(layer, device, part, offset, location.deviceOffset)
          : device.pread(part, location.deviceOffset);
        if (!isPromise(io)) {
          this.#caches.data.hits++;
          return;
        }
        this.#caches.data.misses++;
        return depth === 0 ? held(layer, io) : io;
      }
      case COMPRESSED:
        return this.#readCompressed(part, offset, location, depth);
      default:
        part.fill(0);
    }
  }

  #readCompressed(part: Uint8Array, offset: number, location: Location, depth: number): MaybePromise<void> {
    const layer = this.#resolver.layers[depth] as Layer;
    const within = offset - location.unitOffset;
    const cached = this.#decompressed.get(depth, location);
    if (cached) {
      this.#caches.decompressed.hits++;
      part.set(cached.subarray(within, within + part.length));
      return;
    }
    this.#caches.decompressed.misses++;
    const asked = Object.assign(new Location(), location);
    const io = this.#decompressed
      .load(depth, asked, () => layer.decompress(asked))
      .then((unit) => {
        invariant(unit.length >= within + part.length, 'a decompressed unit covers its location');
        part.set(unit.subarray(within, within + part.length));
      });
    return depth === 0 ? held(layer, io) : io;
  }

  /** Forgets decompressed units of the top layer: their places may be used for something else now. */
  forgetTop(): void {
    this.#decompressed.clear();
  }
}

/** Keeps the top layer's places from being reused until the transfer ended. */
function held(layer: Layer, io: Promise<void>): Promise<void> {
  const writer = layer.writer;
  if (!writer?.hold || !writer.release) return io;
  const token = writer.hold();
  return io.finally(() => writer.release?.(token));
}

async function verifiedRead(
  layer: Layer,
  device: BlockDevice,
  part: Uint8Array,
  offset: number,
  deviceOffset: number,
): Promise<void> {
  await layer.verifyRange?.(offset, part.length);
  await device.pread(part, deviceOffset);
}

/** Fails with `error` once nothing is under way any more. */
export async function failAfter(pending: Promise<void>[], error: unknown): Promise<never> {
  await Promise.allSettled(pending);
  throw error;
}

/** Waits for all, then throws the first failure: no transfer is left running into a buffer that was given back. */
export async function settleAll(pending: Promise<void>[]): Promise<void> {
  if (pending.length === 1) return pending[0];
  const results = await Promise.allSettled(pending);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
