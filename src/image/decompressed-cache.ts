/** Decompressed units, the last few used, bounded in bytes. One unit is decompressed once, however many ask. */
import { LIMITS } from '../base/limits.ts';
import type { Location } from './layer.ts';

export class BlockCache {
  readonly #units = new Map<string, Uint8Array>();
  readonly #loading = new Map<string, Promise<Uint8Array>>();
  #bytes = 0;

  get(depth: number, location: Location): Uint8Array | undefined {
    return this.#units.size === 0 ? undefined : this.#units.get(keyOf(depth, location));
  }

  /** The unit, from the cache, from a load under way, or from `load`. */
  load(depth: number, location: Location, load: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const key = keyOf(depth, location);
    const underWay = this.#loading.get(key);
    if (underWay !== undefined) return underWay;
    const loading = load()
      .then((unit) => {
        if (this.#loading.get(key) === loading) this.#keep(key, unit);
        return unit;
      })
      .finally(() => {
        if (this.#loading.get(key) === loading) this.#loading.delete(key);
      });
    this.#loading.set(key, loading);
    return loading;
  }

  clear(): void {
    this.#units.clear();
    this.#loading.clear();
    this.#bytes = 0;
  }

  #keep(key: string, unit: Uint8Array): void {
    this.#units.set(key, unit);
    this.#bytes += unit.length;
    for (const [oldest, bytes] of this.#units) {
      if (this.#bytes <= LIMITS.decompressedCache) break;
      this.#units.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }
}

/** Which unit it is belongs to the key: its place may become another unit's. */
function keyOf(depth: number, location: Location): string {
  return `${depth}:${location.deviceOffset}:${location.unitOffset}`;
}
