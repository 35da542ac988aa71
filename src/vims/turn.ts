/** One at a time, in the order of asking. */
export class Turn {
  #last: Promise<unknown> | undefined;

  take<T>(work: () => T | Promise<T>): Promise<T> {
    const turn = this.#last !== undefined ? this.#last.then(work) : Promise.resolve().then(work);
    const settled = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#last = settled;
    return turn;
  }
}
