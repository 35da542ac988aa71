/** `vimg device`: the devices of all resources. */
import { usage, wantsJson } from '../command-line.ts';
import { scanNamed } from '../scan-devices.ts';
import { deviceJson, deviceTable } from '../text/device-text.ts';
import { defineVerb, OUTPUT_OPTION, type Verb } from '../verb.ts';

interface Options {
  readonly output?: string;
  readonly free?: boolean;
}

export const verb: Verb = defineVerb<Options>({
  name: 'device',
  summary: 'list the devices of the resources, and what they carry',
  operands: 'ls [RESOURCE…]',
  details:
    'A LUN is a block device or a file that stands for one; a folder is what a directory datastore is made of. A ' +
    'device that carries something, or is used by someone, says so.',
  examples: ['device ls', 'device ls --free', 'device ls --output=json disks'],
  options: [['--free', 'only those that carry nothing that is known, and that nobody uses'], OUTPUT_OPTION],
  async run(context, operands, options) {
    const json = wantsJson(options.output);
    const [action, ...names] = operands;
    if (action !== 'ls') throw usage(action === undefined ? 'Expecting ls' : `Unknown action '${action}'`);
    const all = await scanNamed(context, names);
    const found = options.free
      ? all.filter((each) => each.datastore === undefined && each.inUse === '')
      : all;
    if (json) context.terminal.json(found.map(deviceJson));
    else for (const line of deviceTable(found)) context.terminal.line(line);
    return 0;
  },
});
