/** What a verb of the command line is: its options as data, and what it does. */
import type { VimgError } from '../base/errors.ts';
import type { Terminal } from './terminal.ts';

/** Flags as commander reads them, a line of help, and how a value is read when it is more than text. */
export type OptionRow = readonly [
  flags: string,
  help: string,
  read?: (value: string, previous: unknown) => unknown,
];

/** What every verb is given. */
export interface Context {
  /** The name the tool was called by; messages start with it. */
  readonly program: string;
  /** Called as `qemu-img`: defaults and messages are those of that tool. */
  readonly likeQemuImg: boolean;
  readonly terminal: Terminal;
  /** Aborted by Ctrl-C, SIGTERM, SIGHUP, or when stdout has no reader any more. */
  readonly signal: AbortSignal;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface Verb {
  readonly name: string;
  /** One line, without a full stop: what it does. */
  readonly summary: string;
  /** Operands, as the usage line shows them. */
  readonly operands: string;
  readonly details?: string;
  /** Whole command lines, without the program's name. */
  readonly examples: readonly string[];
  readonly options: readonly OptionRow[];
  /** The last operand may look like an option (`resize disk -5G`). */
  readonly lastOperandIsFree?: boolean;
  /** After a signal its end is waited for: it makes durable what others were told is done. */
  readonly endIsWaitedFor?: boolean;
  /** Exit status for an error, where the verb has a contract of its own. */
  readonly errorStatus?: (error: VimgError) => number;
  /** @returns the exit status */
  readonly run: (context: Context, operands: string[], options: Record<string, unknown>) => Promise<number>;
}

/** A verb with typed options: what each verb file exports. */
export interface VerbDefinition<Options> extends Omit<Verb, 'run'> {
  readonly run: (context: Context, operands: string[], options: Options) => Promise<number>;
}

/** Declares a verb. `Options` names what the rows of `options` produce, by commander's camel-case names. */
export function defineVerb<Options>(definition: VerbDefinition<Options>): Verb {
  return {
    ...definition,
    run: (context, operands, options) => definition.run(context, operands, options as Options),
  };
}

/** Reader for an option that may be given several times. */
export function repeated(value: string, previous: unknown): unknown {
  return Array.isArray(previous) ? [...previous, value] : [value];
}

/** `--output`, in every verb that prints a result. */
export const OUTPUT_OPTION: OptionRow = ['--output <form>', 'human (default) or json'];
/** `--allow`, in every verb that opens a disk and what stands behind it. */
export const ALLOW_OPTION: OptionRow = [
  '--allow <folder>',
  'let disks refer to files in this folder, or to the NBD export of this URI (repeatable; also $VIMG_ALLOW: folders, ' +
    'separated by colons)',
  repeated,
];
/** `-U`, in every verb that only reads. */
export const FORCE_SHARE_OPTION: OptionRow = [
  '-U, --force-share',
  'read without a lock, also while another process writes',
];
/** Options of qemu-img for what this tool does not have; named here so that the refusal is clear. */
export const QEMU_OBJECT_OPTION: OptionRow = [
  '--object <definition>',
  'secrets and the like of QEMU: not supported',
  repeated,
];
