/** What lies where: the answers to BLOCK_STATUS, and the pieces of a READ that crosses holes. */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { Extent } from '../device/block-device.ts';
import type { Export } from './export.ts';
import type { MetadataContext } from './metadata-context.ts';
import type { ContextStatus, ReadPiece } from './request.ts';

/** Questions to the device for one reply: a client asks again for the rest. */
const LOOKUPS_MAX = 2048;
/** Shorter holes are sent as the zeroes they are. */
const HOLE_MIN = 4096;

/**
 * The extents of a range, for each context: neighbours of one kind merged, none past the end of the range; fewer than
 * cover it when that takes too long to find out.
 *
 * @param one the first extent only
 */
export async function blockStatus(
  contexts: readonly MetadataContext[],
  offset: number,
  length: number,
  one: boolean,
): Promise<ContextStatus[]> {
  const statuses: ContextStatus[] = [];
  for (const context of contexts) {
    statuses.push({ context, extents: await extentsOf(context, offset, length, one) });
  }
  return statuses;
}

async function extentsOf(
  context: MetadataContext,
  offset: number,
  length: number,
  one: boolean,
): Promise<number[]> {
  const extents: number[] = [];
  const end = offset + length;
  let at = offset;
  for (let lookups = 0; at < end && lookups < LOOKUPS_MAX; lookups++) {
    const answer = context.at(at, end - at);
    const range = isPromise(answer) ? await answer : answer;
    const last = extents.length - 2;
    if (last >= 0 && extents[last + 1] === range.flags) {
      extents[last] = (extents[last] as number) + range.length;
    } else if (one && last >= 0) {
      break;
    } else {
      extents.push(range.length, range.flags);
    }
    at += range.length;
  }
  return extents;
}

/** Cuts a range into data and holes. Nothing, in the same tick, when all of it is data. */
export function readPieces(
  served: Export,
  offset: number,
  length: number,
): MaybePromise<ReadPiece[] | undefined> {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const extent = served.device.status(at, end - at);
    if (isPromise(extent) || isHole(extent)) return walkPieces(served, offset, end, at, extent);
    at += extent.length;
  }
  return undefined;
}

/** Goes on from `from`, where `first` is what lies there and everything before is data. */
async function walkPieces(
  served: Export,
  offset: number,
  end: number,
  from: number,
  first: MaybePromise<Extent>,
): Promise<ReadPiece[] | undefined> {
  const pieces: ReadPiece[] = from === offset ? [] : [{ offset, length: from - offset, hole: false }];
  let answer = first;
  for (let at = from; ; ) {
    const extent = isPromise(answer) ? await answer : answer;
    const hole = isHole(extent);
    const last = pieces.at(-1);
    if (last?.hole === hole) {
      pieces[pieces.length - 1] = { offset: last.offset, length: last.length + extent.length, hole };
    } else {
      pieces.push({ offset: at, length: extent.length, hole });
    }
    at += extent.length;
    if (at >= end) break;
    answer = served.device.status(at, end - at);
  }
  return pieces.some(({ hole }) => hole) ? pieces : undefined;
}

function isHole(extent: Extent): boolean {
  return extent.zero && extent.length >= HOLE_MIN;
}
