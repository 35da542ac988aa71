/** Reading a verb's options and operands with commander; its complaints become {@link VimgError}s. */
import { Command, CommanderError } from 'commander';
import { VimgError } from '../base/errors.ts';
import type { Context, Verb } from './verb.ts';

export interface ParsedLine {
  readonly operands: string[];
  readonly options: Record<string, unknown>;
}

/** The commander command of a verb: also what help and completion are made from. */
export function commandOf(verb: Verb, program: string): Command {
  const command = new Command(verb.name)
    .description(sentence(verb.summary) + (verb.details === undefined ? '' : `\n\n${verb.details}`))
    .usage(`[options] ${verb.operands}`.trimEnd())
    .helpOption('-h, --help', 'show this help')
    .allowExcessArguments(true)
    .showSuggestionAfterError(true)
    .configureHelp({
      helpWidth: 100,
      commandUsage: () => `${program} ${verb.name} [options] ${verb.operands}`.trimEnd(),
    })
    .addHelpText('after', `\nExamples:\n${verb.examples.map((line) => `  ${program} ${line}`).join('\n')}`);
  for (const [flags, help, read] of verb.options) {
    if (read === undefined) command.option(flags, help);
    else command.option(flags, help, read);
  }
  return command;
}

/**
 * Reads what stands behind the verb. Options and operands may be mixed; `--` ends the options.
 *
 * @returns nothing when the help was shown
 * @throws VimgError `USAGE` for an unknown option or a missing value
 */
export function parseLine(verb: Verb, args: readonly string[], context: Context): ParsedLine | undefined {
  const left = args.map((arg) => (arg === '--progress' ? '--progress=bar' : arg));
  const free = verb.lastOperandIsFree && !/^(-h|--help|--)$/.test(left.at(-1) ?? '') ? left.splice(-1) : [];
  const command = commandOf(verb, context.program)
    .exitOverride()
    .configureOutput({ writeOut: (text) => context.terminal.write(text), writeErr: () => undefined });
  try {
    command.parse(left, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed') return undefined;
    throw usageError(error, verb, context);
  }
  return { operands: [...command.args, ...free], options: command.opts() };
}

function usageError(error: CommanderError, verb: Verb, context: Context): VimgError {
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const option = /'([^']+)'/.exec(first)?.[1]?.split(/[ ,]/)[0] ?? '';
  const help = `${context.program} ${verb.name} --help`;
  const hint = suggestion
    ? `${suggestion.replace(/[()]/g, '')} \`${help}\` lists the options`
    : `see \`${help}\``;
  switch (error.code) {
    case 'commander.unknownOption':
      return new VimgError('USAGE', `unrecognized option '${option}'`, { hint });
    case 'commander.optionMissingArgument':
      return new VimgError('USAGE', `missing argument for option '${option}'`, { hint });
    default:
      return new VimgError('USAGE', first, { hint });
  }
}

/** An error about how the tool was called. */
export function usage(message: string, hint?: string): VimgError {
  return new VimgError('USAGE', message, hint === undefined ? {} : { hint });
}

/** `human` or `json`. @throws VimgError `USAGE` for anything else */
export function wantsJson(output: string | undefined): boolean {
  if (output !== undefined && output !== 'human' && output !== 'json') {
    throw usage('--output must be used with human or json as argument.');
  }
  return output === 'json';
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}
