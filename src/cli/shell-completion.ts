/**
 * Shell completion, made with @bomb.sh/tab from the same option rows that parsing and help use. Everything that knows
 * that package is in this file.
 */
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Command as CompletionCommand, RootCommand, script } from '@bomb.sh/tab';
import { formats } from '../../formats/index.ts';
import { VimgError } from '../base/errors.ts';
import type { Verb } from './verb.ts';
import { VERBS } from './verb-list.ts';

/** Shells that a script can be made for. */
export const SHELLS: readonly string[] = ['bash', 'zsh', 'fish'];

/** What the script for bash takes from the package bash-completion; where that is not installed, words as bash cuts them. */
const BASH_WORDS = `if ! declare -F _get_comp_words_by_ref > /dev/null; then
    _get_comp_words_by_ref() {
        words=("\${COMP_WORDS[@]}")
        cword=$COMP_CWORD
        cur=\${COMP_WORDS[COMP_CWORD]}
        prev=\${COMP_WORDS[COMP_CWORD - 1]}
    }
fi

`;

/** Prints the script that a shell reads to complete the program's lines. @throws VimgError `USAGE` */
export function printCompletionScript(shell: string, program: string): void {
  if (!SHELLS.includes(shell)) {
    throw new VimgError('USAGE', `No completion for the shell '${shell}'`, {
      hint: `it is one of ${SHELLS.join(', ')}`,
    });
  }
  if (shell === 'bash') process.stdout.write(BASH_WORDS);
  script(shell, program, program);
}

/** Prints what could stand in the last place of a line; the script calls this. */
export async function printCompletions(words: readonly string[]): Promise<void> {
  const root = new RootCommand();
  const current = words.at(-1) ?? '';
  for (const listed of VERBS) {
    if (listed.hidden) continue;
    const command = root.command(listed.name, listed.summary);
    if (listed.name === words[0]) addOptions(command, (await listed.load()).verb, current);
  }
  root.parse([...words]);
}

type Offer = (value: string, description: string) => void;

function addOptions(command: CompletionCommand, verb: Verb, current: string): void {
  for (const [flags, help] of verb.options) {
    const short = /^-([A-Za-z])\b/.exec(flags)?.[1];
    const name = /--([a-z-]+)/.exec(flags)?.[1] ?? short;
    if (name === undefined) continue;
    const alias = name === short ? undefined : short;
    const values = valuesFor(flags, current);
    if (values !== undefined) command.option(name, help, values, alias);
    else if (alias !== undefined) command.option(name, help, alias);
    else command.option(name, help);
  }
  command.argument('disk', (offer) => offerFiles(current, offer), true);
}

/** What an option's value can be; nothing for an option without one. */
function valuesFor(flags: string, current: string): ((offer: Offer) => void) | undefined {
  const kind = /<([a-z-]+)>/.exec(flags)?.[1];
  if (kind === undefined) return undefined;
  const words = kind === 'format' ? formats.list().map((driver) => driver.name) : WORDS[kind];
  if (words !== undefined) {
    return (offer) => {
      for (const word of words) offer(word, '');
    };
  }
  if (kind === 'disk' || kind === 'file' || kind === 'folder') return (offer) => offerFiles(current, offer);
  return () => undefined;
}

const WORDS: Readonly<Record<string, readonly string[]>> = {
  form: ['human', 'json'],
  style: ['bar', 'jsonl', 'none'],
  what: ['leaks', 'all'],
};

/** Files and folders that begin like the word being typed. The package asks the shell not to do this itself. */
function offerFiles(current: string, offer: Offer): void {
  const folder = current.endsWith('/') ? current : dirname(current);
  const prefix = current.includes('/') ? folder : '';
  try {
    for (const name of readdirSync(folder === '' ? '.' : folder)) {
      const path = join(prefix, name);
      const shown = prefix === '.' ? `./${path}` : path;
      offer(statSync(path, { throwIfNoEntry: false })?.isDirectory() ? `${shown}/` : shown, '');
    }
  } catch {
    // a folder that cannot be read offers nothing
  }
}
