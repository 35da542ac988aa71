/** The command line tool: finds the verb, runs it, reports what failed, and gives the exit status. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { isVimgError, VimgError } from '../base/errors.ts';
import { mountDatastores } from './datastores.ts';
import { mountNamedExports } from './disk-reference.ts';
import { reportError, statusOf } from './error-report.ts';
import { INTERRUPTED_STATUS, Interruption } from './interruption.ts';
import { overview } from './overview.ts';
import { BROKEN_PIPE_STATUS, Terminal } from './terminal.ts';
import type { Context, Verb } from './verb.ts';
import { findVerb } from './verb-list.ts';

/** The version of qemu-img whose verbs, flags and output this tool follows. */
const QEMU_VERSION = '7.2.0';

/** Verbs of qemu-img that are known, and not here yet. */
const LATER: readonly string[] = ['amend', 'bench', 'bitmap', 'commit', 'dd', 'rebase'];

/**
 * Runs the tool.
 *
 * @param argv as `process.argv`: interpreter, script (its name decides which tool it answers as), arguments
 * @returns the exit status
 */
export async function main(argv: readonly string[]): Promise<number> {
  const likeQemuImg = basename(argv[1] ?? '') === 'qemu-img';
  const program = likeQemuImg ? 'qemu-img' : 'vimg';
  const args = argv.slice(2);
  const interruption = new Interruption();
  const terminal = new Terminal(process.stdout, process.stderr, () =>
    interruption.abort('Nobody reads the output'),
  );
  const context: Context = {
    program,
    likeQemuImg,
    terminal,
    signal: interruption.signal,
    environment: process.env,
  };
  const report = { program, likeQemuImg, json: asksForJson(args) };
  const onBug = (error: Error): void => {
    reportError(terminal, error, report);
    process.exit(1);
  };
  process.on('uncaughtException', onBug);
  let verb: Verb | undefined;
  try {
    const status = await withDatastores(context, () =>
      run(context, args, (found) => {
        verb = found;
        if (found.endIsWaitedFor) interruption.waitForEnd();
      }),
    );
    await terminal.finish();
    return terminal.brokenPipe ? BROKEN_PIPE_STATUS : status;
  } catch (error) {
    if (terminal.brokenPipe) return BROKEN_PIPE_STATUS;
    reportError(terminal, error, { ...report, verb: verb?.name });
    if (interruption.interrupted && isVimgError(error, 'CANCELLED')) return INTERRUPTED_STATUS;
    return isVimgError(error) && verb?.errorStatus ? verb.errorStatus(error) : statusOf(error);
  } finally {
    interruption.dispose();
    terminal.dispose();
    process.off('uncaughtException', onBug);
  }
}

/** Runs the verb with the datastores of this host mounted; closed again, also when it failed. */
async function withDatastores(context: Context, work: () => Promise<number>): Promise<number> {
  const unmount = await mountDatastores(context.environment);
  try {
    return await work();
  } finally {
    await unmount();
  }
}

async function run(context: Context, args: readonly string[], found: (verb: Verb) => void): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined) {
    throw new VimgError('USAGE', 'Not enough arguments', {
      hint: `\`${context.program} --help\` lists the verbs`,
    });
  }
  const bareHelp = context.likeQemuImg && rest.some((arg) => arg === '-h' || arg === '--help');
  if (name === '-h' || name === '--help' || name === 'help' || bareHelp) {
    const about = name === 'help' ? findVerb(rest[0] ?? '') : undefined;
    if (about) return runVerb(context, (await about.load()).verb, ['--help'], found);
    context.terminal.write(overview(context.program));
    return 0;
  }
  if (name === '-V' || name === '--version') {
    context.terminal.line(versionLine(context));
    return 0;
  }
  const listed = findVerb(name);
  if (!listed) {
    if (LATER.includes(name)) throw new VimgError('UNSUPPORTED', `'${name}' is not in this release`);
    const what = name.startsWith('-') ? `unrecognized option '${name}'` : `Command not found: ${name}`;
    throw new VimgError('USAGE', what, { hint: `\`${context.program} --help\` lists the verbs` });
  }
  return runVerb(context, (await listed.load()).verb, rest, found);
}

async function runVerb(
  context: Context,
  verb: Verb,
  args: readonly string[],
  found: (verb: Verb) => void,
): Promise<number> {
  found(verb);
  const { parseLine } = await import('./command-line.ts');
  const line = parseLine(verb, args, context);
  if (line === undefined) return 0;
  const disconnect = await mountNamedExports(args);
  try {
    return await verb.run(context, line.operands, line.options);
  } finally {
    await disconnect();
  }
}

function versionLine(context: Context): string {
  const version = packageVersion();
  return context.likeQemuImg
    ? `qemu-img version ${QEMU_VERSION} (vimg ${version})`
    : `vimg version ${version}`;
}

/** The version in package.json, which lies beside `src` in the repository and beside `dist` in the package. */
function packageVersion(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version: string }).version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return 'unknown';
}

function asksForJson(args: readonly string[]): boolean {
  return args.some(
    (arg, index) => arg === '--output=json' || (arg === '--output' && args[index + 1] === 'json'),
  );
}
