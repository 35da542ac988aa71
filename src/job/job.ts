/** What every long operation takes and how it stops. */
import { VimgError } from '../base/errors.ts';
import type { OnProgress } from './progress.ts';

/** Options of every job. */
export interface JobOptions {
  /** Aborting it makes the job clean up and fail with `CANCELLED`. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: OnProgress | undefined;
}

/** @throws VimgError `CANCELLED` when the signal was aborted */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new VimgError('CANCELLED', 'Interrupted');
}
