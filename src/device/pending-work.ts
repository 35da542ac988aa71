/** Operations under way on a device, so that closing it can wait for them. */
export class PendingWork {
  #count = 0;
  readonly #waiting: (() => void)[] = [];

  /** Counts `work` as under way until it settles. */
  async track<T>(work: Promise<T>): Promise<T> {
    this.#count++;
    try {
      return await work;
    } finally {
      this.#count--;
      if (this.#count === 0) for (const resolve of this.#waiting.splice(0)) resolve();
    }
  }

  /** Resolves once nothing is under way. */
  async idle(): Promise<void> {
    while (this.#count > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
