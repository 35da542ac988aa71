/**
 * Whether a server that owes answers still gives them.
 *
 * Bytes alone count for nothing: a byte now and then, or one empty chunk after another, would keep a request waiting for
 * ever. What counts is an answered request, and data in a number that lets a slow line pass. And each request has an end
 * of its own, so that none is left out while others are answered.
 */
import { type ClientLimits, PROGRESS_BYTES } from './client-limits.ts';

export class ReplyWatch {
  readonly #silenceMs: number;
  readonly #replyMs: number;
  #progressMs = 0;
  #bytes = 0;

  constructor({ silenceMs, replyMs }: Pick<ClientLimits, 'silenceMs' | 'replyMs'>) {
    this.#silenceMs = silenceMs;
    this.#replyMs = replyMs;
  }

  /** An answer is owed from now on, or a request was answered. */
  progress(nowMs: number): void {
    this.#progressMs = nowMs;
    this.#bytes = 0;
  }

  /** Data that was asked for arrived. */
  data(bytes: number, nowMs: number): void {
    this.#bytes += bytes;
    if (this.#bytes >= PROGRESS_BYTES) this.progress(nowMs);
  }

  /** @param oldestMs when the oldest request was sent whose answer is owed; undefined without one */
  isOverdue(oldestMs: number | undefined, nowMs: number): boolean {
    if (oldestMs === undefined) return false;
    return nowMs - this.#progressMs >= this.#silenceMs || nowMs - oldestMs >= this.#replyMs;
  }
}
