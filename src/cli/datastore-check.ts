/** `datastore check`: every disk of a datastore. */
import { formats } from '../../formats/index.ts';
import { type CheckedDisk, checkDisks } from '../storage/check-disks.ts';
import { readConfiguration } from '../storage/configuration.ts';
import { wantsJson } from './command-line.ts';
import { datastore } from './datastores.ts';
import { printable } from './text/printable.ts';
import type { Context } from './verb.ts';

/** @returns the exit status, as `vimg check` has it */
export async function checkDatastore(
  context: Context,
  operands: readonly string[],
  options: { readonly output?: string; readonly quiet?: boolean },
): Promise<number> {
  const json = wantsJson(options.output);
  const { datastores } = await readConfiguration(context.environment);
  const names = operands.length === 0 ? datastores.map(({ name }) => name) : operands;
  const all: CheckedDisk[] = [];
  for (const name of names) {
    const { entry } = await datastore(name.replace(/:$/, ''));
    for await (const disk of checkDisks(`${entry.name}:`, formats, context.signal)) {
      all.push(disk);
      if (json || (options.quiet && disk.state === 'sound')) continue;
      context.terminal.line(`${printable(disk.path)}: ${disk.state}`);
      for (const finding of disk.findings) context.terminal.line(`  ${printable(finding)}`);
    }
  }
  if (json) context.terminal.json(all);
  else if (!options.quiet) context.terminal.line(`${all.length} disks checked`);
  return statusOf(all);
}

function statusOf(all: readonly CheckedDisk[]): number {
  const is = (state: CheckedDisk['state']): boolean => all.some((disk) => disk.state === state);
  if (is('error')) return 1;
  if (is('damaged')) return 2;
  return is('leaks') ? 3 : 0;
}
