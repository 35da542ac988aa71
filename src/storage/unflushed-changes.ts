/**
 * What was changed in a file since it was last durable, kept by its user, so that it can be done again when the process
 * that was to make it durable is killed. Only who keeps other writers out of the file may do so.
 *
 * Doing it again in the order in which it was answered leads to the same content, whatever part of it was durable: each
 * change says what a range holds afterwards, not how it differs from before.
 */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import type { DiskFile } from '../device/file-system.ts';

/** A change of a file's content or size. */
export interface Change {
  /** What is written; nothing for the other changes. */
  readonly buffer?: Uint8Array;
  apply(file: DiskFile, buffer: Uint8Array): MaybePromise<void>;
}

/** How far the changes of a file have come. */
export type Mark = number;

/** What an entry costs beside its bytes. */
const ENTRY_BYTES = 256;
const NOTHING = new Uint8Array(0);

export class UnflushedChanges {
  #changes: Change[] = [];
  #bytes = 0;
  #dropped = 0;

  /** Memory that is taken. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What was added before now, to be dropped when it is durable. */
  get mark(): Mark {
    return this.#dropped + this.#changes.length;
  }

  /** Adds a change that was answered, with a copy of its buffer. */
  add({ buffer, apply }: Change): void {
    this.#changes.push(buffer === undefined ? { apply } : { apply, buffer: Buffer.from(buffer) });
    this.#bytes += cost(buffer);
  }

  /** What was added before the mark is durable. */
  drop(mark: Mark): void {
    for (const { buffer } of this.#changes.splice(0, Math.max(0, mark - this.#dropped))) {
      this.#bytes -= cost(buffer);
      this.#dropped++;
    }
  }

  /** Does everything again. @throws VimgError what the file throws; nothing is forgotten */
  async replay(file: DiskFile): Promise<void> {
    for (const { apply, buffer } of this.#changes) {
      const doing = apply(file, buffer ?? NOTHING);
      if (isPromise(doing)) await doing;
    }
  }
}

function cost(buffer: Uint8Array = NOTHING): number {
  return buffer.length + ENTRY_BYTES;
}
