/**
 * Space of one open file: zeroing, freeing, reserving and telling holes from data, by the kernel's own means where
 * they exist (src/host/file-space.ts) and by writing zeroes where they do not.
 *
 * What turned out not to be supported is remembered, and not asked of the kernel again.
 */
import type { MaybePromise } from '../base/maybe-promise.ts';
import { roundDown, roundUp } from '../base/size.ts';
import { writeAtAsync } from '../host/file-io.ts';
import { changeSpace, changeSpaceAsync, type SpaceChange, seekData, seekHole } from '../host/file-space.ts';

/** Bytes of zeroes written at once. */
const ZERO_PIECE = 1024 * 1024;

/** A hole or data, from the byte asked for on. Length in bytes. */
export interface FileRun {
  readonly hole: boolean;
  readonly length: number;
}

export class FileSpace {
  readonly #fd: number;
  readonly #sector: number;
  readonly #blocking: boolean;
  readonly #unsupported = new Set<SpaceChange | 'seek'>();

  /** `sector`: bytes of the unit in which space changes. `blocking`: work in the same tick where possible. */
  constructor(fd: number, sector: number, blocking: boolean) {
    this.#fd = fd;
    this.#sector = sector;
    this.#blocking = blocking;
  }

  /** Makes a range inside the file read as zeroes, and keeps or frees its space. */
  zero(offset: number, length: number, keepAllocated: boolean): MaybePromise<void> {
    const from = roundUp(offset, this.#sector);
    const to = roundDown(offset + length, this.#sector);
    if (from >= to) return this.#writeZeroes(offset, length);
    const changes: SpaceChange[] = keepAllocated ? ['zero-range'] : ['punch-hole', 'zero-range'];
    if (this.#blocking && from === offset && to === offset + length) {
      if (changes.some((change) => this.#change(change, offset, length))) return;
      return this.#writeZeroes(offset, length);
    }
    return this.#zeroParts(changes, offset, offset + length, from, to);
  }

  /** Zeroes whole sectors by the kernel's means, and what is left of a sector at either edge by writing. */
  async #zeroParts(
    changes: readonly SpaceChange[],
    offset: number,
    end: number,
    from: number,
    to: number,
  ): Promise<void> {
    for (const change of changes) {
      if (!(await this.#changeAsync(change, from, to - from))) continue;
      if (offset < from) await this.#writeZeroes(offset, from - offset);
      if (to < end) await this.#writeZeroes(to, end - to);
      return;
    }
    await this.#writeZeroes(offset, end - offset);
  }

  async #writeZeroes(offset: number, length: number): Promise<void> {
    const zeroes = new Uint8Array(Math.min(length, ZERO_PIECE));
    for (let done = 0; done < length; done += zeroes.length) {
      await writeAtAsync(this.#fd, zeroes.subarray(0, Math.min(zeroes.length, length - done)), offset + done);
    }
  }

  /** Frees the whole sectors of a range inside the file, where that is possible. */
  free(offset: number, length: number): MaybePromise<void> {
    const from = roundUp(offset, this.#sector);
    const to = roundDown(offset + length, this.#sector);
    if (from >= to) return;
    if (!this.#blocking) return this.#changeAsync('punch-hole', from, to - from).then(() => undefined);
    this.#change('punch-hole', from, to - from);
  }

  /** Takes space for a range. Resolves to false where that is not possible. */
  reserve(offset: number, length: number): Promise<boolean> {
    return this.#changeAsync('allocate', offset, length);
  }

  /** What is at `offset`, for at most `length` bytes. A hole up to the end of the file has the length asked for. */
  runAt(offset: number, length: number): FileRun {
    if (this.#unsupported.has('seek')) return { hole: false, length };
    const dataAt = seekData(this.#fd, offset);
    if (dataAt === undefined) {
      this.#unsupported.add('seek');
      return { hole: false, length };
    }
    if (dataAt === 'none') return { hole: true, length };
    if (dataAt > offset) return { hole: true, length: Math.min(dataAt - offset, length) };
    const holeAt = seekHole(this.#fd, offset);
    // A hole at `offset` itself was punched between the two calls: calling it data is never wrong.
    if (typeof holeAt !== 'number' || holeAt <= offset) return { hole: false, length: 1 };
    return { hole: false, length: Math.min(holeAt - offset, length) };
  }

  #change(change: SpaceChange, offset: number, length: number): boolean {
    if (this.#unsupported.has(change)) return false;
    return this.#remember(change, changeSpace(this.#fd, change, offset, length));
  }

  async #changeAsync(change: SpaceChange, offset: number, length: number): Promise<boolean> {
    if (this.#unsupported.has(change)) return false;
    return this.#remember(change, await changeSpaceAsync(this.#fd, change, offset, length));
  }

  #remember(change: SpaceChange, done: boolean): boolean {
    if (!done) this.#unsupported.add(change);
    return done;
  }
}
