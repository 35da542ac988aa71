/** The metadata contexts that clients can choose ("Metadata querying"). */
import type { Export } from './export.ts';

export interface MetadataContext {
  readonly name: string;
  /** As BLOCK_STATUS replies carry it. */
  readonly id: number;
}

/** "The `base:` metadata namespace": holes and zeroes. */
export const BASE_ALLOCATION: MetadataContext = { name: 'base:allocation', id: 1 };
/** QEMU's docs/interop/nbd.rst: how deep in the chain the data lies. */
const ALLOCATION_DEPTH: MetadataContext = { name: 'qemu:allocation-depth', id: 2 };

/** The contexts of an export. */
function contextsOf(served: Export): MetadataContext[] {
  return served.depthAt ? [BASE_ALLOCATION, ALLOCATION_DEPTH] : [BASE_ALLOCATION];
}

/** Contexts that a LIST query names: one by its name, or those of a namespace by `namespace:`. */
export function listed(served: Export, queries: readonly string[]): MetadataContext[] {
  if (queries.length === 0) return contextsOf(served);
  return contextsOf(served).filter(({ name }) =>
    queries.some((query) => query === name || (query.endsWith(':') && name.startsWith(query))),
  );
}

/** Contexts that a SET query names; a wildcard chooses none. */
export function selected(served: Export, queries: readonly string[]): MetadataContext[] {
  return contextsOf(served).filter(({ name }) => queries.includes(name));
}
