/** `datastore df`: space, over-commitment and alarms. */
import { formats } from '../../formats/index.ts';
import { formatSize } from '../base/size.ts';
import { readConfiguration } from '../storage/configuration.ts';
import type { Alarm } from '../storage/configuration-schema.ts';
import { type DatastoreSpace, datastoreSpace, rememberAlarm } from '../storage/space.ts';
import { datastore } from './datastores.ts';
import { columns } from './text/columns.ts';
import type { Context } from './verb.ts';

/** Exit status: worse is lower, as for `check`. */
const STATUS_OF: Readonly<Record<Alarm, number>> = { normal: 0, warning: 3, critical: 2 };

interface Measured extends DatastoreSpace {
  readonly name: string;
}

/** Prints the space of the datastores named, of all when none is. @returns the exit status */
export async function showSpace(
  context: Context,
  operands: readonly string[],
  json: boolean,
): Promise<number> {
  const { datastores } = await readConfiguration(context.environment);
  const names = operands.length === 0 ? datastores.map(({ name }) => name) : operands;
  const measured: Measured[] = [];
  for (const operand of names) {
    const open = await datastore(operand.replace(/:$/, ''));
    const space = await datastoreSpace(open, formats);
    measured.push({ name: open.entry.name, ...space });
    if (space.alarm !== (open.entry.alarm ?? 'normal'))
      await rememberAlarm(open.entry.name, space.alarm, context.environment);
  }
  if (json)
    context.terminal.json(
      measured.length === 1 ? spaceJson(measured[0] as Measured) : measured.map(spaceJson),
    );
  else for (const line of spaceTable(measured)) context.terminal.line(line);
  const worst = measured.some(({ alarm }) => alarm === 'critical')
    ? 'critical'
    : measured.some(({ alarm }) => alarm === 'warning')
      ? 'warning'
      : 'normal';
  return STATUS_OF[worst];
}

function spaceTable(measured: readonly Measured[]): string[] {
  const rows = measured.map((space) => [
    space.name,
    formatSize(space.capacity),
    formatSize(space.used),
    formatSize(space.free),
    `${space.percentUsed.toFixed(1)} %`,
    formatSize(space.promised),
    space.ratio.toFixed(2),
    space.alarm,
  ]);
  const heading = ['NAME', 'CAPACITY', 'USED', 'FREE', 'USE', 'PROMISED', 'RATIO', 'ALARM'];
  return columns([heading, ...rows], [1, 2, 3, 4, 5, 6]);
}

function spaceJson(space: Measured): Record<string, unknown> {
  const { name, capacity, used, free, files, promised, ratio, percentUsed, alarm } = space;
  return { name, capacity, used, free, files, promised, ratio, 'percent-used': percentUsed, alarm };
}
