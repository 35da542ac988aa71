/**
 * How often what a disk needed was at hand, by the cache that had it. Counting is adding 1: it costs the data path
 * nothing that can be measured.
 */
import type { Layer } from './layer.ts';

/** Times that something was in a cache, and that it had to be waited for. */
export class HitCounts {
  hits = 0;
  misses = 0;

  add({ hits, misses }: HitCounts): void {
    this.hits += hits;
    this.misses += misses;
  }
}

export interface CacheStatistics {
  /** Reads of guest data from the files of the layers. Hits: answered in the same tick, by the host's page cache. */
  readonly data: HitCounts;
  /** Pages of the formats' own mapping: hits are those in memory already. */
  readonly metadata: HitCounts;
  /** Compressed units: hits are those decompressed already. */
  readonly decompressed: HitCounts;
}

/** The counts of one disk since it was opened: also of layers that it does not stand on any more. */
export class DiskCaches {
  readonly data: HitCounts = new HitCounts();
  readonly decompressed: HitCounts = new HitCounts();
  readonly #former = new HitCounts();
  #metadata: ReadonlySet<HitCounts> = new Set();

  /** A layer may have become another object, with the same counts. */
  setLayers(layers: readonly Layer[]): void {
    const present = new Set(layers.flatMap(({ metadataCounts }) => metadataCounts ?? []));
    for (const counts of this.#metadata) if (!present.has(counts)) this.#former.add(counts);
    this.#metadata = present;
  }

  toJSON(): CacheStatistics {
    const metadata = new HitCounts();
    metadata.add(this.#former);
    for (const counts of this.#metadata) metadata.add(counts);
    return { data: this.data, metadata, decompressed: this.decompressed };
  }
}
