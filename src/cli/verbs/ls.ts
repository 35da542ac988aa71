/** `vimg ls`: the files of a folder in a datastore. */

import { VimgError } from '../../base/errors.ts';
import { formatSize } from '../../base/size.ts';
import { joinPath, nameOf } from '../../device/file-path.ts';
import type { FileStatus } from '../../device/file-system.ts';
import { fileStatus, listFolder } from '../../device/files.ts';
import { usage, wantsJson } from '../command-line.ts';
import { requireDatastorePath } from '../datastores.ts';
import { columns } from '../text/columns.ts';
import { printable } from '../text/printable.ts';
import { defineVerb, OUTPUT_OPTION, type Verb } from '../verb.ts';

interface Options {
  readonly output?: string;
  readonly long?: boolean;
  readonly all?: boolean;
}

interface Entry {
  readonly name: string;
  readonly status: FileStatus;
}

export const verb: Verb = defineVerb<Options>({
  name: 'ls',
  summary: 'list files in a datastore',
  operands: 'DATASTORE:[PATH]…',
  details: 'Names that begin with a dot, such as files that are being made, are left out without -a.',
  examples: ['ls ds1:', 'ls -l ds1:vm1', 'ls --output=json ds1:vm1'],
  options: [
    ['-l, --long', 'with the size, and the space that is taken'],
    ['-a, --all', 'names that begin with a dot too'],
    OUTPUT_OPTION,
  ],
  async run(context, operands, options) {
    if (operands.length === 0) throw usage('Expecting a path in a datastore');
    const json = wantsJson(options.output);
    const all: Record<string, unknown>[] = [];
    for (const name of operands) {
      const path = await requireDatastorePath(name);
      const entries = await entriesOf(path, options.all ?? false);
      if (json) {
        all.push({ path, entries: entries.map(entryJson) });
        continue;
      }
      if (operands.length > 1) context.terminal.line(`${printable(path)}:`);
      for (const line of options.long ? longLines(entries) : entries.map(shownName))
        context.terminal.line(line);
    }
    if (json) context.terminal.json(all.length === 1 ? all[0]?.['entries'] : all);
    return 0;
  },
});

async function entriesOf(path: string, hidden: boolean): Promise<Entry[]> {
  const status = await fileStatus(path);
  if (!status) throw new VimgError('NOT_FOUND', 'No such file or directory', { op: 'list', path });
  if (status.kind !== 'folder') return [{ name: nameOf(path), status }];
  const entries: Entry[] = [];
  for (const name of (await listFolder(path)).sort()) {
    if (name.startsWith('.') && !hidden) continue;
    const found = await fileStatus(joinPath(path, name));
    if (found) entries.push({ name, status: found }); // else it was removed meanwhile
  }
  return entries;
}

function shownName({ name, status }: Entry): string {
  return printable(status.kind === 'folder' ? `${name}/` : name);
}

function longLines(entries: readonly Entry[]): string[] {
  const rows = entries.map((entry) => [
    entry.status.kind === 'folder' ? '' : formatSize(entry.status.size),
    entry.status.kind === 'folder' ? '' : formatSize(entry.status.allocated),
    changed(entry.status),
    shownName(entry),
  ]);
  return columns([['SIZE', 'TAKES', 'CHANGED', 'NAME'], ...rows], [0, 1]);
}

function changed({ modifiedNs }: FileStatus): string {
  return new Date(Number(modifiedNs / 1_000_000n))
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z');
}

function entryJson({ name, status }: Entry): Record<string, unknown> {
  return {
    name,
    kind: status.kind,
    ...(status.kind === 'folder' ? {} : { size: status.size, allocated: status.allocated }),
    changed: new Date(Number(status.modifiedNs / 1_000_000n)).toISOString(),
  };
}
