/**
 * Memory that all clients of a server have together. Each has a part of its own, which nobody can take from it; what a
 * client holds beyond that comes out of one shared part. Where that is used up, clients wait in the order in which they
 * came, and each is let in with one request before it has to wait again.
 *
 * Invariants: what clients hold beyond their own parts is at most the shared part, or the one request that came while
 * nothing of it was in use; a client that holds no more than its own part never waits.
 */

export class MemoryBudget {
  readonly ownBytes: number;
  readonly sharedBytes: number;
  #usedBytes = 0;
  /** First come, first served. */
  readonly #waiting = new Set<MemoryShare>();
  #wakePlanned = false;

  constructor(ownBytes: number, sharedBytes: number) {
    this.ownBytes = ownBytes;
    this.sharedBytes = sharedBytes;
  }

  /** Bytes of the shared part that are in use. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** @param onRoom called when a client that was refused should try again */
  share(onRoom: () => void): MemoryShare {
    return new MemoryShare(this, onRoom);
  }

  /** What a client uses of the shared part changed. */
  use(change: number): void {
    this.#usedBytes += change;
    if (change >= 0 || this.#waiting.size === 0 || this.#wakePlanned) return;
    this.#wakePlanned = true;
    setImmediate(this.#wake);
  }

  mayUse(share: MemoryShare, more: number): boolean {
    const [first = share] = this.#waiting;
    const fits = this.#usedBytes === 0 || this.#usedBytes + more <= this.sharedBytes;
    if (first === share && fits) {
      this.#waiting.delete(share);
      return true;
    }
    this.#waiting.add(share);
    return false;
  }

  leave(share: MemoryShare): void {
    if (!this.#waiting.delete(share) || this.#waiting.size === 0 || this.#wakePlanned) return;
    this.#wakePlanned = true; // whoever stood behind it may have room
    setImmediate(this.#wake);
  }

  /** One after the other is let in, until the first has to go on waiting. */
  readonly #wake = (): void => {
    this.#wakePlanned = false;
    let [first] = this.#waiting;
    while (first !== undefined) {
      first.onRoom();
      const [next] = this.#waiting;
      if (next === first) return;
      first = next;
    }
  };
}

/** One client's part. */
export class MemoryShare {
  readonly onRoom: () => void;
  readonly #budget: MemoryBudget;
  #beyondBytes = 0;

  constructor(budget: MemoryBudget, onRoom: () => void) {
    this.#budget = budget;
    this.onRoom = onRoom;
  }

  /** Says what the client holds now. */
  hold(bytes: number): void {
    const beyond = Math.max(0, bytes - this.#budget.ownBytes);
    if (beyond === this.#beyondBytes) return;
    this.#budget.use(beyond - this.#beyondBytes);
    this.#beyondBytes = beyond;
  }

  /** Whether the client, which holds `bytes`, may have `more`. If not, `onRoom` is called later. */
  mayHave(bytes: number, more: number): boolean {
    this.hold(bytes);
    const beyond = Math.max(0, bytes + more - this.#budget.ownBytes);
    if (beyond === 0) return true;
    return this.#budget.mayUse(this, beyond - this.#beyondBytes);
  }

  /** The client lets no more requests in. */
  leave(): void {
    this.#budget.leave(this);
  }
}
