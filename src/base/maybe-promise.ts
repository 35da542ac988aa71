/**
 * Same-tick results.
 *
 * On the data path a promise costs more than the work it stands for, so functions there return
 * `T | Promise<T>` and callers wait only when a promise came back.
 */

/** A value that is at hand, or a promise of it. */
export type MaybePromise<T> = T | Promise<T>;

/** Whether `value` has to be waited for. */
export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return value instanceof Promise;
}
