/**
 * Where a guest range lives, over a whole chain of layers.
 *
 * Asking layer after layer costs the same work for each, so deep chains keep a small direct-mapped index: for a
 * granule of 64 KiB, the first layer behind the top that holds anything of it. Layers behind the top never change
 * while the chain is open, so an entry stays true.
 */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { BEHIND, type Layer, Location, ZERO } from './layer.ts';

const GRANULE = 65536;
const INDEX_SLOTS = 1 << 17;
/** Chains up to this depth are asked layer by layer. */
const INDEX_FROM_DEPTH = 3;

export class ChainResolver {
  readonly layers: readonly Layer[];
  readonly #granules: Float64Array | undefined;
  readonly #firstLayer: Uint16Array | undefined;
  readonly #scratch = new Location();

  constructor(layers: readonly Layer[]) {
    this.layers = layers;
    if (layers.length >= INDEX_FROM_DEPTH) {
      this.#granules = new Float64Array(INDEX_SLOTS).fill(-1);
      this.#firstLayer = new Uint16Array(INDEX_SLOTS);
    }
  }

  /**
   * Fills `into` for a first part of the range, from layer `from` of the chain on.
   *
   * @returns the depth of the layer that answered, or the chain's length when none holds the range (ZERO)
   */
  resolve(offset: number, length: number, into: Location, from = 0): MaybePromise<number> {
    const { layers } = this;
    let depth = from;
    let left = length;
    while (depth < layers.length) {
      const layer = layers[depth] as Layer;
      if (offset >= layer.virtualSize) return this.#zero(into, left, depth);
      const asked = Math.min(left, layer.virtualSize - offset);
      const answer = layer.locate(offset, asked, into);
      if (isPromise(answer)) return this.#resume(answer, offset, into, depth);
      if (into.kind !== BEHIND) return depth;
      left = into.length;
      depth = depth === 0 && this.#granules ? this.#next(offset, left) : depth + 1;
    }
    return this.#zero(into, left, layers.length);
  }

  async #resume(answer: Promise<void>, offset: number, into: Location, depth: number): Promise<number> {
    await answer;
    if (into.kind !== BEHIND) return depth;
    return this.resolve(offset, into.length, into, depth + 1);
  }

  #zero(into: Location, length: number, depth: number): number {
    into.kind = ZERO;
    into.length = length;
    into.reserved = false;
    into.verify = false;
    into.device = undefined;
    return depth;
  }

  /** The first layer behind the top worth asking about `offset`; a range that crosses granules asks the next. */
  #next(offset: number, length: number): number {
    const granule = Math.floor(offset / GRANULE);
    if (offset + length > (granule + 1) * GRANULE) return 1;
    const granules = this.#granules as Float64Array;
    const firstLayer = this.#firstLayer as Uint16Array;
    const slot = granule % INDEX_SLOTS;
    if (granules[slot] === granule) return firstLayer[slot] as number;
    const start = granule * GRANULE;
    let depth = 1;
    for (; depth < this.layers.length; depth++) {
      const layer = this.layers[depth] as Layer;
      if (start >= layer.virtualSize) break;
      const asked = Math.min(GRANULE, layer.virtualSize - start);
      const answer = layer.locate(start, asked, this.#scratch);
      if (isPromise(answer)) {
        answer.catch(() => undefined); // the same question is asked again, and its failure reported, by resolve
        return depth;
      }
      if (this.#scratch.kind !== BEHIND || this.#scratch.length < asked) break;
      if (asked < GRANULE) break;
    }
    granules[slot] = granule;
    firstLayer[slot] = depth;
    return depth;
  }
}
