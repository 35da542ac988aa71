/** The metadata contexts that clients can choose ("Metadata querying"). */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { Extent } from '../device/block-device.ts';
import type { ChangeExtent, DiskImage, MapExtent } from '../image/disk-image.ts';
import type { Export } from './export.ts';
import { STATE_HOLE, STATE_ZERO, STRING_MAX } from './protocol.ts';

/** A first part of a range, with what a context says of it. */
export interface StatusRange {
  readonly length: number;
  /** As the context defines them. */
  readonly flags: number;
}

/** What a context knows of an export. */
export interface StatusSource {
  readonly name: string;
  /** What lies at `offset`: a first part of the range, at least 1 byte. */
  at(offset: number, length: number): MaybePromise<StatusRange>;
}

export interface MetadataContext extends StatusSource {
  /** As BLOCK_STATUS replies carry it. */
  readonly id: number;
}

/** Flag of `vimg:changed-since:NAME`: the range may read otherwise than at the snapshot. */
const STATE_CHANGED: number = 1 << 0;
const CHANGED_SINCE = 'vimg:changed-since:';

/** "The `base:` metadata namespace": holes and zeroes. */
function baseAllocation(served: Export): StatusSource {
  const told = ({ length, zero, allocated }: Extent): StatusRange => ({
    length,
    flags: (allocated ? 0 : STATE_HOLE) | (zero ? STATE_ZERO : 0),
  });
  return {
    name: 'base:allocation',
    at: (offset, length) => answered(served.device.status(offset, length), told),
  };
}

/** What is known of a disk beyond a device: how deep in the chain data lies (QEMU's nbd.rst), and what changed. */
export function diskContexts(disk: DiskImage): StatusSource[] {
  const depth = ({ length, present, depth: layer }: MapExtent): StatusRange => ({
    length,
    flags: present ? layer + 1 : 0,
  });
  const change = ({ length, changed }: ChangeExtent): StatusRange => ({
    length,
    flags: changed ? STATE_CHANGED : 0,
  });
  const allocationDepth: StatusSource = {
    name: 'qemu:allocation-depth',
    at: (offset, length) => answered(disk.mapAt(offset, length), depth),
  };
  const changes = [...new Set(disk.snapshots)].map(
    (snapshot): StatusSource => ({
      name: `${CHANGED_SINCE}${snapshot}`,
      at: (offset, length) => answered(disk.changedSince(snapshot, offset, length), change),
    }),
  );
  return [allocationDepth, ...changes.filter(({ name }) => Buffer.byteLength(name) <= STRING_MAX)];
}

function answered<T>(answer: MaybePromise<T>, told: (answer: T) => StatusRange): MaybePromise<StatusRange> {
  return isPromise(answer) ? answer.then(told) : told(answer);
}

/** The contexts of an export as it is now. */
function contextsOf(served: Export): MetadataContext[] {
  const sources = [baseAllocation(served), ...(served.moreContexts?.() ?? [])];
  return sources.map((source, index) => ({ ...source, id: index + 1 }));
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
