/** `vimg datastore`: where disks live. */
import { VimgError } from '../../base/errors.ts';
import { changeConfiguration, readConfiguration } from '../../storage/configuration.ts';
import type { DatastoreEntry } from '../../storage/configuration-schema.ts';
import { findDatastore, forgetDatastore } from '../../storage/datastore.ts';
import { openDatastore } from '../../storage/open-datastore.ts';
import { DEFAULT_THRESHOLDS } from '../../storage/space.ts';
import { findVolume } from '../../storage/volume-devices.ts';
import { usage, wantsJson } from '../command-line.ts';
import { checkDatastore } from '../datastore-check.ts';
import { extendDatastore, makeDatastore } from '../datastore-make.ts';
import { showSpace } from '../datastore-space.ts';
import { deviceAccess } from '../device-access.ts';
import { columns } from '../text/columns.ts';
import { printable } from '../text/printable.ts';
import { type Context, defineVerb, OUTPUT_OPTION, type Verb } from '../verb.ts';

interface Options {
  readonly output?: string;
  readonly quiet?: boolean;
  readonly warning?: string;
  readonly critical?: string;
  readonly recovery?: string;
  readonly repair?: boolean;
  readonly undo?: string;
  readonly applyUndo?: string;
  readonly force?: boolean;
  readonly size?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'datastore',
  summary: 'make, list, measure and check datastores',
  operands:
    'create|add NAME FOLDER|DEVICE… | extend NAME [DEVICE] | ls | info|df|check [NAME…] | set|rm NAME',
  details:
    'A datastore is a place where disks live; its files are named NAME:PATH in every verb. `create` makes one of a ' +
    'folder (of a local disk, or of a mounted share), or of devices: block devices, NBD exports, files that stand for ' +
    'one (--size makes them). A device that carries anything is refused, unless with --force. `extend` makes one larger ' +
    'by a device, or by what its devices have grown by, while it is in use. `add` makes one known here that another ' +
    'host made; `rm` forgets one, and touches nothing that lies there. `df` ends with 0, with 3 when use has reached the warning threshold, ' +
    'with 2 when it has reached the critical one; an alarm ends when use has fallen below its threshold by ' +
    '--recovery. `check` checks every disk, and the volume below when there is one, and ends as `vimg check` does.',
  examples: [
    'datastore create ds1 /mnt/share/disks',
    'datastore create ds2 /dev/mapper/lun1 /dev/mapper/lun2',
    'datastore create ds3 --size 20G lun.img',
    'datastore extend ds3 --size 20G more.img',
    'datastore ls',
    'datastore df --output=json ds1',
    'datastore set ds1 --warning 70 --critical 90',
    'datastore check ds1',
  ],
  options: [
    OUTPUT_OPTION,
    ['--warning <percent>', `set: use from which df warns (default ${DEFAULT_THRESHOLDS.warning})`],
    ['--critical <percent>', `set: use from which it is critical (default ${DEFAULT_THRESHOLDS.critical})`],
    ['--recovery <percent>', `set: how far use has to fall again (default ${DEFAULT_THRESHOLDS.recovery})`],
    ['-r, --repair', 'check: repair of a volume what can be proven; what is overwritten is saved first'],
    ['--undo <file>', 'check: where it is saved; default: the name of the datastore with .undo and the time'],
    ['--apply-undo <file>', 'check: put back what a repair overwrote, then check'],
    ['--force', 'create, extend: also on a device that carries something; it is lost'],
    ['--size <size>', 'create, extend: make a file of that size, which stands for a device'],
    ['-q, --quiet', 'print only errors'],
  ],
  run(context, operands, options) {
    const [action, ...rest] = operands;
    const run = action === undefined ? undefined : ACTIONS[action];
    if (!run) {
      throw usage(
        action === undefined ? 'Expecting an action' : `Unknown action '${action}'`,
        `actions: ${Object.keys(ACTIONS).join(', ')}`,
      );
    }
    return run(context, rest, options);
  },
});

type Action = (context: Context, operands: readonly string[], options: Options) => Promise<number>;

const ACTIONS: Readonly<Record<string, Action>> = {
  create: (context, operands, options) => make(context, 'create', operands, options),
  add: (context, operands, options) => make(context, 'add', operands, options),
  extend,
  ls: list,
  info,
  df: (context, operands, options) => showSpace(context, operands, wantsJson(options.output)),
  check: checkDatastore,
  set: setThresholds,
  rm: forget,
};

async function make(
  context: Context,
  action: 'create' | 'add',
  operands: readonly string[],
  options: Options,
): Promise<number> {
  const entry = await makeDatastore(context, action, operands, options);
  if (options.quiet) return 0;
  const what = entry.kind === 'directory' ? 'directory datastore in' : 'volume on';
  if (wantsJson(options.output)) context.terminal.json(entryJson(entry));
  else context.terminal.line(`${entry.name}: ${what} ${printable(placesOf(entry))}`);
  return 0;
}

async function extend(context: Context, operands: readonly string[], options: Options): Promise<number> {
  const line = await extendDatastore(context, operands, options);
  if (!options.quiet) context.terminal.line(printable(line));
  return 0;
}

async function list(context: Context, operands: readonly string[], options: Options): Promise<number> {
  if (operands.length > 0) throw usage(`Unexpected argument: ${operands[0]}`);
  const json = wantsJson(options.output);
  const { datastores } = await readConfiguration(context.environment);
  const states = await Promise.all(datastores.map(stateOf));
  if (json) {
    context.terminal.json(
      datastores.map((entry, index) => ({ ...entryJson(entry), state: states[index]?.state })),
    );
    return 0;
  }
  const rows = datastores.map((entry, index) => [
    entry.name,
    entry.kind,
    states[index]?.state ?? '',
    placesOf(entry),
  ]);
  for (const line of columns([['NAME', 'KIND', 'STATE', 'DEVICES'], ...rows])) context.terminal.line(line);
  return 0;
}

/** Whether a datastore can be used now; and why not. */
async function stateOf(entry: DatastoreEntry): Promise<{ state: 'normal' | 'abnormal'; problem?: string }> {
  try {
    if (entry.kind === 'vims') await findVolume(entry, deviceAccess);
    else await (await openDatastore(entry, deviceAccess)).close();
    return { state: 'normal' };
  } catch (error) {
    if (error instanceof VimgError) return { state: 'abnormal', problem: error.message };
    throw error;
  }
}

async function info(context: Context, operands: readonly string[], options: Options): Promise<number> {
  const json = wantsJson(options.output);
  const found: Record<string, unknown>[] = [];
  for (const entry of await namedDatastores(context, operands)) {
    const { state, problem } = await stateOf(entry);
    found.push({ ...entryJson(entry), state, ...(problem === undefined ? {} : { problem }) });
    if (json) continue;
    const { warning, critical, recovery } = entry.thresholds ?? DEFAULT_THRESHOLDS;
    const lines = [
      `name: ${entry.name}`,
      `kind: ${entry.kind}`,
      `uuid: ${entry.uuid}`,
      `state: ${state}${problem === undefined ? '' : ` (${problem})`}`,
      `devices: ${placesOf(entry)}`,
      `thresholds: warning ${warning} %, critical ${critical} %, recovery ${recovery} %`,
    ];
    for (const line of lines) context.terminal.line(printable(line));
  }
  if (json) context.terminal.json(found.length === 1 ? found[0] : found);
  return 0;
}

async function namedDatastores(
  context: Context,
  names: readonly string[],
): Promise<readonly DatastoreEntry[]> {
  const { environment } = context;
  if (names.length === 0) return (await readConfiguration(environment)).datastores;
  return Promise.all(names.map((name) => findDatastore(name.replace(/:$/, ''), environment)));
}

async function setThresholds(
  context: Context,
  operands: readonly string[],
  options: Options,
): Promise<number> {
  const [name, extra] = operands;
  if (name === undefined) throw usage('Expecting the name of a datastore');
  if (extra !== undefined) throw usage(`Unexpected argument: ${extra}`);
  const entry = await findDatastore(name, context.environment);
  const before = entry.thresholds ?? DEFAULT_THRESHOLDS;
  const thresholds = {
    warning: percent(options.warning, before.warning),
    critical: percent(options.critical, before.critical),
    recovery: percent(options.recovery, before.recovery),
  };
  if (thresholds.warning > thresholds.critical)
    throw usage('The warning comes before the critical threshold');
  await changeConfiguration(context.environment, (now) => ({
    ...now,
    datastores: now.datastores.map((each) => (each.name === name ? { ...each, thresholds } : each)),
  }));
  return 0;
}

function percent(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = /^\d{1,3}(\.\d+)?%?$/.test(text) ? Number.parseFloat(text) : Number.NaN;
  if (!(value >= 0 && value <= 100))
    throw usage(`'${text}' is no percentage`, 'write a number from 0 to 100');
  return value;
}

async function forget(context: Context, operands: readonly string[]): Promise<number> {
  const [name, extra] = operands;
  if (name === undefined) throw usage('Expecting the name of a datastore');
  if (extra !== undefined) throw usage(`Unexpected argument: ${extra}`);
  await forgetDatastore(name, context.environment);
  return 0;
}

function placesOf(entry: DatastoreEntry): string {
  return entry.devices.map((device) => device.path).join(', ');
}

function entryJson(entry: DatastoreEntry): Record<string, unknown> {
  const { name, kind, uuid, devices } = entry;
  return { name, kind, uuid, devices, thresholds: entry.thresholds ?? DEFAULT_THRESHOLDS };
}
