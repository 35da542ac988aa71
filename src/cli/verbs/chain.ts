/** `vimg chain`: the layers of a disk, from the top down; `chain relocate` finds parents that were moved. */
import { formatSize } from '../../base/size.ts';
import { type ChainLink, chainOf, relocateChain } from '../../image/chain.ts';
import { usage, wantsJson } from '../command-line.ts';
import { filePath } from '../disk-reference.ts';
import { lifecycleContext } from '../lifecycle-disk.ts';
import { type Access, type AccessOptions, accessOf, knownFormat } from '../open-disk.ts';
import { printable } from '../text/printable.ts';
import { shownPath } from '../text/shown-path.ts';
import { ALLOW_OPTION, type Context, defineVerb, OUTPUT_OPTION, repeated, type Verb } from '../verb.ts';

interface Options extends AccessOptions {
  readonly output?: string;
  readonly search?: readonly string[];
}

export const verb: Verb = defineVerb<Options>({
  name: 'chain',
  summary: 'show the layers of a disk, and find those that were moved',
  operands: '[relocate] DISK',
  details:
    'A layer is MISSING when there is no file where its child says, STALE when the file there is another one or was ' +
    'changed: exit status 1. `chain relocate` looks for parents by their identity in the folders of --search, and ' +
    'writes down where they are.',
  examples: [
    'chain clone.vvd',
    'chain --output=json clone.vvd',
    'chain relocate --search /srv/images clone.vvd',
  ],
  options: [
    ['-f, --format <format>', 'format of the disk; without it, its content tells'],
    ['--search <folder>', 'with relocate: look here and below (repeatable)', repeated],
    OUTPUT_OPTION,
    ALLOW_OPTION,
  ],
  async run(context, operands, options) {
    const json = wantsJson(options.output);
    const [first, ...rest] = operands;
    const relocates = first === 'relocate' && rest.length > 0;
    const names = relocates ? rest : operands;
    const [name] = names;
    if (name === undefined || names.length > 1) throw usage('Expecting one image file name');
    if (!relocates && options.search)
      throw usage('--search is for relocate', `vimg chain relocate --search DIR ${name}`);
    const access = accessOf(context, options, names);
    if (relocates) return relocate(context, name, access, options, json);
    return show(context, name, access, options, json);
  },
});

async function show(
  context: Context,
  name: string,
  access: Access,
  options: Options,
  json: boolean,
): Promise<number> {
  const path = await filePath(name);
  const format = knownFormat(options.format, path);
  const links = await chainOf(path, {
    ...lifecycleContext(access),
    ...(format === undefined ? {} : { format }),
  });
  if (json) context.terminal.json(links.map(linkJson));
  else for (const [depth, link] of links.entries()) context.terminal.line(linkText(link, depth, name));
  return links.every((link) => link.state === 'ok') ? 0 : 1;
}

function linkText(link: ChainLink, depth: number, named: string): string {
  const place = `${'  '.repeat(depth)}${depth === 0 ? '' : '└ '}${printable(shownPath(link.path, named))}`;
  if (link.state !== 'ok') return `${place}  ${link.state.toUpperCase()}: ${printable(link.problem ?? '')}`;
  const parts = [link.format ?? '', link.virtualSize === undefined ? '' : formatSize(link.virtualSize)];
  if (link.snapshot !== undefined) parts.push(`snapshot '${printable(link.snapshot)}'`);
  return `${place}  ${parts.filter((part) => part !== '').join(', ')}`;
}

function linkJson(link: ChainLink): Record<string, unknown> {
  const { path, virtualSize, ...rest } = link;
  return { filename: path, ...rest, ...(virtualSize === undefined ? {} : { 'virtual-size': virtualSize }) };
}

async function relocate(
  context: Context,
  name: string,
  access: Access,
  options: Options,
  json: boolean,
): Promise<number> {
  const folders = options.search ?? [];
  if (folders.length === 0)
    throw usage('Where should parents be looked for?', `vimg chain relocate --search DIR ${name}`);
  const changed = await relocateChain(await filePath(name), folders, lifecycleContext(access));
  if (json) context.terminal.json(changed);
  else if (changed.length === 0) context.terminal.line('Every parent is where its child says.');
  else {
    for (const { layer, parent } of changed) {
      context.terminal.line(
        `${printable(shownPath(layer, name))} now stands on ${printable(shownPath(parent, name))}`,
      );
    }
  }
  return 0;
}
