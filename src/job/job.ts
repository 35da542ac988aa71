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

/** Steps that a job takes before it lets others have the thread, when all of them ended in the same tick. */
const STEPS_AT_ONCE = 256;

/** Call before each step of a long walk: a server goes on answering meanwhile. @returns a promise now and then */
export function breathe(step: number): Promise<void> | undefined {
  if (step % STEPS_AT_ONCE !== 0) return undefined;
  return new Promise((resolve) => setImmediate(resolve));
}
