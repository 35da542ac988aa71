/**
 * What the tool prints, and where: what was asked for goes to stdout, everything else to stderr.
 *
 * Output to stdout is gathered into large writes; stderr is written at once, after what stdout holds. A reader that
 * goes away (`vimg map disk | head -1`) ends the tool quietly.
 */
import { fromSystemError, VimgError } from '../base/errors.ts';

const GATHER_BYTES = 1 << 16;

/** As a shell reports a tool that died of SIGPIPE. */
export const BROKEN_PIPE_STATUS = 141;

export interface OutputStream {
  write(text: string): boolean;
  on(event: 'error', listener: (error: NodeJS.ErrnoException) => void): unknown;
  off(event: 'error', listener: (error: NodeJS.ErrnoException) => void): unknown;
  listenerCount(event: 'error'): number;
  readonly isTTY?: boolean;
}

export class Terminal {
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  readonly #onBrokenPipe: () => void;
  #gathered = '';
  #stderrFailed = false;
  #failure: NodeJS.ErrnoException | undefined;

  /** @param onBrokenPipe called once stdout has no reader any more: work whose result nobody sees should stop */
  constructor(stdout: OutputStream, stderr: OutputStream, onBrokenPipe: () => void) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#onBrokenPipe = onBrokenPipe;
    stdout.on('error', this.#fail);
    stderr.on('error', this.#failStderr);
  }

  /** Whether a person sees what goes to stderr: only then may it hold a moving bar. */
  get interactive(): boolean {
    const { TERM } = process.env;
    return this.#stderr.isTTY === true && TERM !== 'dumb';
  }

  /** The reader of stdout went away. */
  get brokenPipe(): boolean {
    return this.#failure?.code === 'EPIPE';
  }

  /** Prints to stdout, as it is. */
  write(text: string): void {
    this.#gathered += text;
    if (this.#gathered.length >= GATHER_BYTES) this.flush();
  }

  /** Prints a line to stdout. */
  line(text = ''): void {
    this.write(`${text}\n`);
  }

  /** Prints a value to stdout as qemu-img prints JSON: four spaces a level. */
  json(value: unknown): void {
    this.write(`${JSON.stringify(value, jsonValue, 4)}\n`);
  }

  /** Prints a line to stderr. */
  note(text: string): void {
    this.noteRaw(`${text}\n`);
  }

  /** Prints to stderr, as it is. */
  noteRaw(text: string): void {
    this.flush();
    if (!this.#stderrFailed) this.#stderr.write(text);
  }

  /** Hands what was gathered to stdout. */
  flush(): void {
    if (this.#gathered === '') return;
    const text = this.#gathered;
    this.#gathered = '';
    if (this.#failure === undefined) this.#stdout.write(text);
  }

  /** Flushes, and throws when something printed did not arrive for another reason than a reader that left. */
  async finish(): Promise<void> {
    this.flush();
    await new Promise((resolve) => setImmediate(resolve)); // a failed write is reported in the next turn
    if (this.#failure !== undefined && !this.brokenPipe) {
      const { message } = fromSystemError(this.#failure);
      throw new VimgError('IO', message, { op: 'write the output', cause: this.#failure });
    }
  }

  /** Stops listening to the streams; a write that fails after this is nobody's concern. */
  dispose(): void {
    this.#stdout.off('error', this.#fail);
    this.#stderr.off('error', this.#failStderr);
    for (const stream of [this.#stdout, this.#stderr]) {
      if (stream.listenerCount('error') === 0) stream.on('error', () => undefined);
    }
  }

  /** There is nobody left to tell. */
  readonly #failStderr = (): void => {
    this.#stderrFailed = true;
  };

  readonly #fail = (error: NodeJS.ErrnoException): void => {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    if (error.code === 'EPIPE') this.#onBrokenPipe();
  };
}

/** BigInts that fit are numbers in JSON; bytes are hex. */
function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return value;
}
