/** Taking the space of a part of a disk before it is used. */
import type { DiskImage } from '../image/disk-image.ts';
import { throwIfCancelled } from './job.ts';

const PIECE = 1024 * 1024;

/**
 * Takes the space from `from` to `to`.
 *
 * @param mode `falloc`: reserved, nothing is written; `full`: zeroes are written
 */
export async function preallocate(
  disk: DiskImage,
  from: number,
  to: number,
  mode: 'falloc' | 'full',
  signal: AbortSignal,
): Promise<void> {
  if (to <= from) return;
  if (mode === 'falloc') {
    await disk.writeZeroes(from, to - from, { keepAllocated: true });
    return;
  }
  const zeroes = new Uint8Array(PIECE);
  for (let at = from; at < to; at += PIECE) {
    throwIfCancelled(signal);
    await disk.pwrite(zeroes.subarray(0, Math.min(PIECE, to - at)), at);
  }
}
