/** `vimg resource`: where storage physically comes from. */
import { readConfiguration } from '../../storage/configuration.ts';
import { RESOURCE_KINDS, type ResourceKind } from '../../storage/configuration-schema.ts';
import { addResource, forgetResource } from '../../storage/resource.ts';
import { usage, wantsJson } from '../command-line.ts';
import { scanNamed } from '../scan-devices.ts';
import { columns } from '../text/columns.ts';
import { deviceJson, deviceTable } from '../text/device-text.ts';
import { type Context, defineVerb, OUTPUT_OPTION, type Verb } from '../verb.ts';

interface Options {
  readonly output?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'resource',
  summary: 'name where storage comes from, and find the devices there',
  operands: 'add NAME KIND [LOCATION] | ls | scan [NAME…] | rm NAME',
  details:
    'KIND is local, nas, ip-san, fc-san or pool. LOCATION is a folder: a mounted share, a place for files that stand ' +
    'for LUNs. Without one, a resource has the block devices of this host that are attached so. `scan` looks which ' +
    'devices there are, who uses them, and what they carry; it changes nothing.',
  examples: [
    'resource add disks local',
    'resource add share nas /mnt/share',
    'resource scan disks',
    'resource ls --output=json',
  ],
  options: [OUTPUT_OPTION],
  async run(context, operands, options) {
    const json = wantsJson(options.output);
    const [action, ...rest] = operands;
    switch (action) {
      case 'add':
        return add(context, rest);
      case 'ls':
        return list(context, rest, json);
      case 'scan':
        return scan(context, rest, json);
      case 'rm':
        if (rest.length !== 1) throw usage('Expecting the name of a resource');
        await forgetResource(rest[0] as string, context.environment);
        return 0;
      default:
        throw usage(action === undefined ? 'Expecting add, ls, scan or rm' : `Unknown action '${action}'`);
    }
  },
});

async function add(context: Context, operands: readonly string[]): Promise<number> {
  const [name, kind, location, extra] = operands;
  if (name === undefined || kind === undefined) throw usage('Expecting a name and a kind');
  if (extra !== undefined) throw usage(`Unexpected argument: ${extra}`);
  if (!isKind(kind)) throw usage(`Unknown kind '${kind}'`, `kinds: ${RESOURCE_KINDS.join(', ')}`);
  await addResource({ name, kind, ...(location === undefined ? {} : { location }) }, context.environment);
  return 0;
}

function isKind(kind: string): kind is ResourceKind {
  return (RESOURCE_KINDS as readonly string[]).includes(kind);
}

async function list(context: Context, operands: readonly string[], json: boolean): Promise<number> {
  if (operands.length > 0) throw usage(`Unexpected argument: ${operands[0]}`);
  const { resources } = await readConfiguration(context.environment);
  if (json) {
    context.terminal.json(resources);
    return 0;
  }
  const rows = resources.map(({ name, kind, location }) => [
    name,
    kind,
    location ?? 'block devices of this host',
  ]);
  for (const line of columns([['NAME', 'KIND', 'LOCATION'], ...rows])) context.terminal.line(line);
  return 0;
}

async function scan(context: Context, names: readonly string[], json: boolean): Promise<number> {
  const found = await scanNamed(context, names);
  if (json) context.terminal.json(found.map(deviceJson));
  else for (const line of deviceTable(found)) context.terminal.line(line);
  return 0;
}
