/** Ranges of a file's entries that somebody is about to change: whoever wants to change the same waits. */
interface BusyRange {
  readonly first: number;
  readonly end: number;
  readonly waiters: (() => void)[];
}

export class RangeGate {
  readonly #busy: BusyRange[] = [];

  /** Waits until none of the entries is being changed; then they are the caller's. @returns what gives them back */
  async enter(first: number, count = 1): Promise<() => void> {
    const end = first + count;
    for (;;) {
      const other = this.#busy.find((range) => range.first < end && first < range.end);
      if (!other) break;
      await new Promise<void>((resolve) => other.waiters.push(resolve));
    }
    const own: BusyRange = { first, end, waiters: [] };
    this.#busy.push(own);
    return () => {
      this.#busy.splice(this.#busy.indexOf(own), 1);
      for (const resolve of own.waiters) resolve();
    };
  }
}
