/** `vimg lock`: who holds which file of a datastore. */
import { usage, wantsJson } from '../command-line.ts';
import { datastore } from '../datastores.ts';
import { columns } from '../text/columns.ts';
import { defineVerb, OUTPUT_OPTION, type Verb } from '../verb.ts';

interface Options {
  readonly output?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'lock',
  summary: 'show who holds which file of a datastore',
  operands: 'ls DATASTORE…',
  details:
    'EX is a writer, alone with the disk; PR a reader, who keeps writers out. SINCE is when the process started: the ' +
    'lock is not older. A process that ended, however it ended, holds nothing.',
  examples: ['lock ls ds1', 'lock ls --output=json ds1'],
  options: [OUTPUT_OPTION],
  async run(context, operands, options) {
    const json = wantsJson(options.output);
    const [action, ...names] = operands;
    if (action !== 'ls') throw usage(action === undefined ? 'Expecting ls' : `Unknown action '${action}'`);
    if (names.length === 0) throw usage('Expecting the name of a datastore');
    const held = [];
    for (const name of names) held.push(...(await (await datastore(name.replace(/:$/, ''))).locks()));
    if (json) {
      context.terminal.json(
        held.map(({ sinceMs, ...lock }) => ({
          ...lock,
          ...(sinceMs === undefined ? {} : { since: time(sinceMs) }),
        })),
      );
      return 0;
    }
    const rows = held.map((lock) => [
      lock.path,
      lock.mode,
      lock.host,
      String(lock.pid),
      lock.sinceMs === undefined ? '' : time(lock.sinceMs),
      lock.command === '' ? lock.program : lock.command,
    ]);
    for (const line of columns([['FILE', 'MODE', 'HOST', 'PID', 'SINCE', 'COMMAND'], ...rows])) {
      context.terminal.line(line);
    }
    return 0;
  },
});

function time(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
