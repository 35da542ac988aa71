/** `vimg completion`: a script that lets a shell complete verbs, options and formats. */
import { usage } from '../command-line.ts';
import { printCompletionScript, SHELLS } from '../shell-completion.ts';
import { defineVerb, type Verb } from '../verb.ts';

export const verb: Verb = defineVerb<Record<string, never>>({
  name: 'completion',
  summary: 'print a completion script for bash, zsh or fish',
  operands: SHELLS.join('|'),
  examples: [
    'completion bash > ~/.local/share/bash-completion/completions/vimg',
    'completion zsh > ~/.zfunc/_vimg',
  ],
  options: [],
  run(context, operands) {
    const [shell] = operands;
    if (shell === undefined || operands.length > 1)
      throw usage('Expecting the name of a shell', SHELLS.join(', '));
    printCompletionScript(shell, context.program);
    return Promise.resolve(0);
  },
});
