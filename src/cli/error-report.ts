/** Errors as the user sees them: one line, a hint where there is a next step, JSON when JSON was asked for. */
import { ERROR_CODES, isVimgError, VimgError } from '../base/errors.ts';
import type { Terminal } from './terminal.ts';
import { printable } from './text/printable.ts';

export interface ReportOptions {
  readonly program: string;
  readonly likeQemuImg: boolean;
  readonly json: boolean;
  /** The verb that failed. */
  readonly verb?: string | undefined;
}

/**
 * What failed and why, in one line: `Could not open 'a.vvd': why`, and where the operation is told in several words,
 * `a.vvd: could not read the header: why`.
 */
export function describeError(error: VimgError): string {
  const { op, path, offset, message } = error;
  const place = offset !== undefined && !message.includes(String(offset)) ? ` (at byte ${offset})` : '';
  const why = `${message}${place}`;
  const file = path !== undefined && !message.includes(path) ? path : undefined;
  if (op === undefined || message.startsWith('Could not')) return oneLine(file ? `${file}: ${why}` : why);
  if (file === undefined) return oneLine(`Could not ${op}: ${why}`);
  return oneLine(op.includes(' ') ? `${file}: could not ${op}: ${why}` : `Could not ${op} '${file}': ${why}`);
}

/** Prints an error to stderr. Anything that is no `VimgError` is a bug of ours and says so, without a stack trace. */
export function reportError(terminal: Terminal, error: unknown, options: ReportOptions): void {
  const shown = isVimgError(error) ? error : bugReport(error);
  if (options.json) {
    terminal.note(JSON.stringify(shown.toJSON()));
  } else {
    terminal.note(`${options.program}: ${describeError(shown)}`);
    const hint = hintOf(shown, options);
    if (hint !== undefined) terminal.note(hint);
  }
  const { VIMG_DEBUG } = process.env;
  if (!isVimgError(error) && VIMG_DEBUG) terminal.note(String((error as Error)?.stack ?? error));
}

/** The exit status of an error, unless the verb has its own. */
export function statusOf(error: unknown): number {
  return isVimgError(error) ? ERROR_CODES[error.code].exitStatus : 1;
}

/** The next step: the error's own, or where the verb is explained. */
function hintOf(error: VimgError, options: ReportOptions): string | undefined {
  if (options.likeQemuImg && error.code === 'USAGE') return "Try 'qemu-img --help' for more information";
  const asked =
    error.code === 'USAGE' && error.path === undefined && options.verb
      ? `see \`${options.program} ${options.verb} --help\``
      : undefined;
  const hint = error.hint ?? asked;
  return hint === undefined ? undefined : `hint: ${oneLine(hint)}`;
}

function bugReport(error: unknown): VimgError {
  const text = error instanceof Error ? error.message : String(error);
  return new VimgError('IO', `Internal error: ${text.replace(/^vimg bug: /, '')}`, {
    hint: 'this is a bug in vimg; VIMG_DEBUG=1 shows where it happened, please report it with that',
    cause: error,
  });
}

/** Names and messages may come from a hostile image: nothing in them may move the cursor or start a new line. */
function oneLine(text: string): string {
  return printable(text.replaceAll('\n', ' ')).trim();
}
