/**
 * Progress of a job, counted in bytes really to be moved: zeroes and holes are no work.
 *
 * A meter reports at most ten times a second, always at the start and the end of a phase.
 */

/** What a job is doing. */
export type JobPhase = 'mapping' | 'copying' | 'comparing' | 'checking' | 'sealing' | 'flushing' | 'done';

export interface ProgressReport {
  readonly phase: JobPhase;
  readonly bytesDone: number;
  /** Bytes to be moved in all. */
  readonly bytesTotal: number;
  /** Between 0 and 1. */
  readonly fraction: number;
  /** Over the last seconds. */
  readonly bytesPerSecond: number;
  /** Seconds left at that rate, once there is a rate. */
  readonly secondsLeft?: number;
  readonly secondsElapsed: number;
}

export type OnProgress = (report: ProgressReport) => void;

const REPORT_INTERVAL_MS = 100;
/** The rate is taken over this long, so that it neither jumps nor lags. */
const RATE_WINDOW_MS = 5000;

export class ProgressMeter {
  readonly #onProgress: OnProgress | undefined;
  readonly #now: () => number;
  readonly #startedMs: number;
  readonly #samples: { atMs: number; bytes: number }[] = [];
  #phase: JobPhase = 'mapping';
  #done = 0;
  #total = 0;
  #reportedMs = Number.NEGATIVE_INFINITY;

  constructor(onProgress: OnProgress | undefined, now: () => number = () => performance.now()) {
    this.#onProgress = onProgress;
    this.#now = now;
    this.#startedMs = now();
  }

  /** Whether anybody listens: without a listener nothing has to be counted. */
  get active(): boolean {
    return this.#onProgress !== undefined;
  }

  /** Starts a phase; `total` when the bytes to be moved are known from here on. */
  phase(phase: JobPhase, total?: number): void {
    this.#phase = phase;
    if (total !== undefined) this.#total = total;
    this.#report();
  }

  /** Counts bytes that were moved. */
  add(bytes: number): void {
    this.#done += bytes;
    if (this.#onProgress && this.#now() - this.#reportedMs >= REPORT_INTERVAL_MS) this.#report();
  }

  #report(): void {
    if (!this.#onProgress) return;
    const nowMs = this.#now();
    this.#reportedMs = nowMs;
    this.#samples.push({ atMs: nowMs, bytes: this.#done });
    while (this.#samples.length > 2 && nowMs - (this.#samples[0]?.atMs ?? nowMs) > RATE_WINDOW_MS)
      this.#samples.shift();
    const first = this.#samples[0] ?? { atMs: nowMs, bytes: this.#done };
    const spanMs = nowMs - first.atMs;
    const bytesPerSecond = spanMs > 0 ? ((this.#done - first.bytes) * 1000) / spanMs : 0;
    const left = Math.max(0, this.#total - this.#done);
    this.#onProgress({
      phase: this.#phase,
      bytesDone: this.#done,
      bytesTotal: this.#total,
      fraction: this.#fraction(),
      bytesPerSecond,
      ...(bytesPerSecond > 0 && this.#phase !== 'mapping' ? { secondsLeft: left / bytesPerSecond } : {}),
      secondsElapsed: (nowMs - this.#startedMs) / 1000,
    });
  }

  #fraction(): number {
    if (this.#phase === 'done') return 1;
    return this.#total === 0 ? 0 : Math.min(1, this.#done / this.#total);
  }
}
