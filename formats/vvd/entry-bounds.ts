/**
 * What entries of a table page may say before anything is written by them: a hostile image has right checksums, and
 * a place that is nonsense would make a write, a hole or a later allocation hit something else.
 */
import {
  allocatedOf,
  COMPRESSED_ALIGNMENT,
  entryAt,
  KIND_COMPRESSED,
  KIND_DATA,
  KIND_ZERO,
  kindOf,
  placeOf,
  zeroOf,
} from './entry.ts';
import type { Region } from './header.ts';
import { ENTRIES, PAGE } from './layout.ts';

export interface EntryBounds {
  readonly blockSize: number;
  /** Lowest place, and the end of the space in use. */
  readonly from: number;
  readonly to: number;
  /** What the header names in between: a directory that moved, checksum pages. */
  readonly regions: readonly Region[];
}

/** What is wrong with the entries of a table page, if anything. */
export function entriesProblem(view: DataView, bounds: EntryBounds): string | undefined {
  for (let slot = 0; slot < ENTRIES; slot++) {
    const problem = entryProblem(view, entryAt(slot), bounds);
    if (problem !== undefined) return `entry ${slot}: ${problem}`;
  }
  return undefined;
}

function entryProblem(view: DataView, at: number, bounds: EntryBounds): string | undefined {
  const kind = kindOf(view, at);
  if (kind > KIND_ZERO) return `unknown kind ${kind}`;
  if (kind !== KIND_DATA && kind !== KIND_COMPRESSED) return undefined;
  const place = placeOf(view, at);
  const allocated = allocatedOf(view, at);
  if (kind === KIND_COMPRESSED) {
    if (allocated === 0 || allocated > bounds.blockSize) return 'a compressed block has an impossible length';
    return placeProblem(place, allocated, COMPRESSED_ALIGNMENT, bounds);
  }
  if ((allocated & zeroOf(view, at)) !== 0) return 'a part is stored and reads as zero';
  if (place === 0) return allocated === 0 ? undefined : 'it is stored nowhere';
  return placeProblem(place, bounds.blockSize, PAGE, bounds);
}

function placeProblem(
  place: number,
  length: number,
  alignment: number,
  bounds: EntryBounds,
): string | undefined {
  const { from, to, regions } = bounds;
  if (place % alignment !== 0) return `its place ${place} is not aligned`;
  if (place < from || place + length > to) return `its place ${place} is outside the space in use`;
  for (const region of regions) {
    if (place < region.offset + region.length && region.offset < place + length) {
      return `its place ${place} is in the ${region.name}`;
    }
  }
  return undefined;
}
