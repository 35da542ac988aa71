/**
 * Turns many small writes that follow one another into few large ones.
 *
 * Large pieces go to the file as they are. Small ones are copied, so the caller's buffer is free at once, and leave
 * in transfers of up to {@link RUN_BYTES}; how many of these are under way is bounded. A write that fails behind the
 * caller's back fails every later call and `drain`.
 */
import { isPromise } from '../../src/base/maybe-promise.ts';
import type { BlockDevice } from '../../src/device/block-device.ts';

const RUN_BYTES: number = 1024 * 1024;
/** Pieces of at least this size are written without being copied. */
const DIRECT_BYTES: number = 256 * 1024;
const UNDER_WAY_MAX = 4;

export class WriteCombiner {
  readonly #file: BlockDevice;
  #run: Uint8Array | undefined = undefined;
  #runOffset = 0;
  #runLength = 0;
  readonly #underWay = new Set<Promise<void>>();
  readonly #spare: Uint8Array[] = [];
  #failure: unknown = undefined;

  constructor(file: BlockDevice) {
    this.#file = file;
  }

  /** Writes `data` at `offset`, now or soon. Large data must stay unchanged until the promise resolves. */
  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#rethrow();
    if (data.length >= DIRECT_BYTES) {
      await this.#file.pwrite(data, offset);
      return;
    }
    for (let done = 0; done < data.length; ) {
      if (this.#run !== undefined && offset + done !== this.#runOffset + this.#runLength) this.#send();
      if (this.#run === undefined) {
        // While this waits for room another caller may open a run of its own: look again.
        if (this.#underWay.size >= UNDER_WAY_MAX) {
          await Promise.race(this.#underWay);
          this.#rethrow();
          continue;
        }
        this.#run = this.#spare.pop() ?? new Uint8Array(RUN_BYTES);
        this.#runOffset = offset + done;
        this.#runLength = 0;
      }
      const length = Math.min(RUN_BYTES - this.#runLength, data.length - done);
      this.#run.set(data.subarray(done, done + length), this.#runLength);
      this.#runLength += length;
      done += length;
      if (this.#runLength === RUN_BYTES) this.#send();
    }
  }

  /** Sends the open run on its way. */
  #send(): void {
    const run = this.#run as Uint8Array;
    this.#run = undefined;
    try {
      const writing = this.#file.pwrite(run.subarray(0, this.#runLength), this.#runOffset);
      if (!isPromise(writing)) {
        this.#spare.push(run);
        return;
      }
      const tracked = writing
        .then(
          () => void this.#spare.push(run),
          (error: unknown) => {
            this.#failure ??= error;
          },
        )
        .finally(() => this.#underWay.delete(tracked));
      this.#underWay.add(tracked);
    } catch (error) {
      this.#failure ??= error;
    }
  }

  /** Waits until everything is written. @throws the first failure */
  async drain(): Promise<void> {
    if (this.#run !== undefined) this.#send();
    await Promise.all(this.#underWay);
    this.#rethrow();
  }

  #rethrow(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
