/**
 * Giving host space back. It is housekeeping: where the host refuses, the space is a leak that the next open or a
 * check finds again, and nothing that a guest wrote is touched. So a failure here fails nothing else.
 */
import { VimgError } from '../../src/base/errors.ts';
import { isPromise, type MaybePromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';

/** Frees the host space of a range, as far as the file reaches. Reads there as zeroes or as before. */
export function freeHostSpace(file: BlockDevice, place: number, length: number): MaybePromise<void> {
  const inFile = Math.min(length, file.size - place);
  if (inFile > 0) return housekeeping(() => file.discard(place, inFile));
}

/** Ends the file at `size`, when it is longer and can be cut. */
export function cutFile(file: BlockDevice, size: number): MaybePromise<void> {
  if (file.limits.growable && file.size > size) return housekeeping(() => file.resize(size));
}

function housekeeping(work: () => MaybePromise<void>): MaybePromise<void> {
  try {
    const io = work();
    return isPromise(io) ? io.catch(refused) : undefined;
  } catch (error) {
    refused(error);
  }
}

function refused(error: unknown): void {
  if (!(error instanceof VimgError)) throw error;
}
