/** `datastore check`: the volume that a datastore stands on, and every disk in it. */
import { formats } from '../../formats/index.ts';
import { type CheckedDisk, checkDisks } from '../storage/check-disks.ts';
import { readConfiguration } from '../storage/configuration.ts';
import type { DatastoreEntry } from '../storage/configuration-schema.ts';
import { findDatastore } from '../storage/datastore.ts';
import { checkVolume, undoVolumeRepair } from '../storage/volume-check.ts';
import { usage, wantsJson } from './command-line.ts';
import { deviceAccess } from './device-access.ts';
import { printable } from './text/printable.ts';
import type { Context } from './verb.ts';

export interface CheckDatastoreOptions {
  readonly output?: string;
  readonly quiet?: boolean;
  readonly repair?: boolean;
  readonly undo?: string;
  readonly applyUndo?: string;
}

/** @returns the exit status, as `vimg check` has it */
export async function checkDatastore(
  context: Context,
  operands: readonly string[],
  options: CheckDatastoreOptions,
): Promise<number> {
  const json = wantsJson(options.output);
  const { datastores } = await readConfiguration(context.environment);
  const names = operands.length === 0 ? datastores.map(({ name }) => name) : operands;
  refuseSenseless(names, options);
  const all: CheckedDisk[] = [];
  for (const operand of names) {
    const entry = await findDatastore(operand.replace(/:$/, ''), context.environment);
    if (entry.kind === 'vims') {
      const volume = await examineVolume(context, entry, options);
      all.push(volume);
      if (!json && !(options.quiet && volume.state === 'sound')) tell(context, volume);
      if (volume.state === 'damaged') continue; // attaching it could make things worse
    }
    for await (const disk of checkDisks(`${entry.name}:`, formats, context.signal)) {
      all.push(disk);
      if (!json && !(options.quiet && disk.state === 'sound')) tell(context, disk);
    }
  }
  if (json) context.terminal.json(all);
  else if (!options.quiet) {
    const disks = all.filter(({ path }) => !path.endsWith(':')).length;
    context.terminal.line(`${disks} disks checked`);
  }
  return statusOf(all);
}

function tell(context: Context, { path, state, findings }: CheckedDisk): void {
  context.terminal.line(`${printable(path.replace(/:$/, ''))}: ${state}`);
  for (const finding of findings) context.terminal.line(`  ${printable(finding)}`);
}

function refuseSenseless(names: readonly string[], options: CheckDatastoreOptions): void {
  if (options.repair && options.applyUndo !== undefined) {
    throw usage('Cannot repair and put back what a repair overwrote at once');
  }
  if (options.undo !== undefined && !options.repair) throw usage('--undo is for --repair');
  if ((options.repair || options.applyUndo !== undefined) && names.length !== 1) {
    throw usage('A repair is of one datastore: name it');
  }
}

/** The volume itself, in the terms of a disk: its path is that of the root, `ds1:`. */
async function examineVolume(
  context: Context,
  entry: DatastoreEntry,
  options: CheckDatastoreOptions,
): Promise<CheckedDisk> {
  const { name } = entry;
  if (options.applyUndo !== undefined) {
    await undoVolumeRepair(entry, deviceAccess, options.applyUndo);
    context.terminal.note(`what the repair overwrote is put back from ${options.applyUndo}`);
  }
  const undoPath = options.undo ?? `${name}.undo-${new Date().toISOString().replace(/[:.]/g, '-')}`;
  const { findings, repaired } = await checkVolume(entry, deviceAccess, {
    signal: context.signal,
    ...(options.repair ? { undoPath } : {}),
  });
  if (repaired > 0) {
    const count = repaired === 1 ? '1 finding' : `${repaired} findings`;
    context.terminal.note(`${count} repaired; what that overwrote is saved in ${undoPath}`);
  }
  const damaged = findings.some(({ severity }) => severity === 'corruption');
  const state = damaged ? 'damaged' : findings.length > 0 ? 'leaks' : 'sound';
  return { path: `${name}:`, state, findings: findings.map(({ message }) => message) };
}

function statusOf(all: readonly CheckedDisk[]): number {
  const is = (state: CheckedDisk['state']): boolean => all.some((disk) => disk.state === state);
  if (is('error')) return 1;
  if (is('damaged')) return 2;
  return is('leaks') ? 3 : 0;
}
