/**
 * Ctrl-C and friends. The first signal asks the work to stop and clean up. A second one, or work that does not stop
 * soon, ends the tool at once; the exit hook of src/image/pending-file.ts still removes what is half-made. A verb whose
 * end makes something durable is given the time that it takes: only a second signal cuts it off.
 */
import { VimgError } from '../base/errors.ts';

/** Exit status of work that was interrupted, as a shell reports it for SIGINT. */
export const INTERRUPTED_STATUS = 130;

/** Work that has no place to stop at (one long call of the kernel) is not waited for longer than this. */
const PATIENCE_MS = 3000;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interruption {
  readonly #controller = new AbortController();
  #interrupted = false;
  #waitsForEnd = false;

  constructor() {
    for (const name of SIGNALS) process.on(name, this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** A signal came (an abort from within is no interruption). */
  get interrupted(): boolean {
    return this.#interrupted;
  }

  /** Asks the work to stop, without a signal. */
  abort(reason: string): void {
    this.#controller.abort(new VimgError('CANCELLED', reason));
  }

  /** From now on the work is waited for, however long it takes to end. */
  waitForEnd(): void {
    this.#waitsForEnd = true;
  }

  /** Stops listening: signals are the entry script's again. */
  dispose(): void {
    for (const name of SIGNALS) process.off(name, this.#onSignal);
  }

  readonly #onSignal = (): void => {
    if (this.#interrupted) process.exit(INTERRUPTED_STATUS);
    this.#interrupted = true;
    if (!this.#waitsForEnd) setTimeout(() => process.exit(INTERRUPTED_STATUS), PATIENCE_MS).unref();
    this.abort('Interrupted');
  };
}
