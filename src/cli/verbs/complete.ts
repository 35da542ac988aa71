/** `vimg complete -- WORD…`: what completion scripts ask. */
import { printCompletions } from '../shell-completion.ts';
import { defineVerb, type Verb } from '../verb.ts';

export const verb: Verb = defineVerb<Record<string, never>>({
  name: 'complete',
  summary: 'what a completion script asks',
  operands: '-- WORD…',
  examples: ["complete -- convert --target-format ''"],
  options: [],
  async run(_context, operands) {
    await printCompletions(operands);
    return 0;
  },
});
