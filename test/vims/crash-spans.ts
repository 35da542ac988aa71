/** Ranges of files that a random workload changes, and the history of zeroes in them. */
import type { SeededRandom } from '../../src/base/random.ts';
import { SECTOR } from '../../src/testing/index.ts';
import { type CrashFile, WINDOWS } from './crash-world.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Bytes of a file, in whole sectors. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** A part of a window. */
export function randomSpan(random: SeededRandom): Span {
  const window = random.pick([...WINDOWS.slice(0, 3), ...WINDOWS]);
  const sectors = window.length / SECTOR;
  const first = random.below(sectors);
  const count = 1 + random.below(random.pick([2, sectors]));
  return {
    from: window.offset + first * SECTOR,
    to: window.offset + Math.min(sectors, first + count) * SECTOR,
  };
}

/** From one border to another. */
export function wideSpan(random: SeededRandom, file: CrashFile): Span {
  const places = [0, 64 * KiB, MiB, MiB + 8 * KiB, 488 * MiB, file.size];
  const [one, other] = [random.pick(places), random.pick(places)];
  return one === other ? randomSpan(random) : { from: Math.min(one, other), to: Math.max(one, other) };
}

/** Sectors of a range in the windows become zero. @returns to be called when they are */
export function zeroHistory({ history }: CrashFile, { from, to }: Span): () => void {
  const operations = WINDOWS.map(({ offset, length }) => {
    const start = Math.max(from, offset);
    return history.zero(start, Math.max(0, Math.min(to, offset + length) - start));
  });
  return () => {
    for (const operation of operations) history.settle(operation);
  };
}
