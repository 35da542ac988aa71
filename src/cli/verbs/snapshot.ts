/** `vimg snapshot`: lists, takes, returns to and deletes snapshots. Taking one of several disks is all or nothing. */
import { formats } from '../../../formats/index.ts';
import { VimgError } from '../../base/errors.ts';
import { formatSize } from '../../base/size.ts';
import type { SnapshotInfo } from '../../image/layer.ts';
import type { LayerSnapshot } from '../../image/lifecycle.ts';
import { driverOf } from '../../image/snapshot.ts';
import { type SnapshotEntry, snapshotEntry } from '../../job/image-info.ts';
import { usage, wantsJson } from '../command-line.ts';
import { hereOrThere, refuseServed } from '../disk-owner.ts';
import { filePath } from '../disk-reference.ts';
import { type LifecycleDisk, lifecycleContext, lifecycleDisk } from '../lifecycle-disk.ts';
import { type Access, type AccessOptions, accessOf, knownFormat, openDisk } from '../open-disk.ts';
import type { ProgressOptions } from '../progress-display.ts';
import { withProgress } from '../seal-disk.ts';
import { snapshotTable } from '../text/snapshot-text.ts';
import {
  ALLOW_OPTION,
  type Context,
  defineVerb,
  FORCE_SHARE_OPTION,
  OUTPUT_OPTION,
  QEMU_OBJECT_OPTION,
  type Verb,
} from '../verb.ts';

interface Options extends AccessOptions, ProgressOptions {
  readonly list?: boolean;
  readonly create?: string;
  readonly apply?: string;
  readonly delete?: string;
  readonly plan?: boolean;
  readonly output?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'snapshot',
  summary: 'list, take, return to and delete snapshots',
  operands: 'DISK [DISK…]',
  examples: [
    'snapshot -c before disk.vvd',
    'snapshot -c nightly root.vvd data.vvd',
    'snapshot -l disk.vvd',
    'snapshot -a before disk.vvd',
    'snapshot -d before --plan disk.vvd',
  ],
  options: [
    ['-l, --list', 'list the snapshots (default)'],
    ['-c, --create <name>', 'take a snapshot of all the disks, or of none'],
    ['-a, --apply <name>', 'return to this snapshot: what was written since is given up'],
    ['-d, --delete <name>', 'delete this snapshot: its data moves to where it is still needed'],
    ['--plan', 'with -d: tell what would be done, and do nothing'],
    ['-f, --format <format>', 'format of the disks; without it, their content tells'],
    OUTPUT_OPTION,
    ['-p', 'show progress'],
    ['--progress <style>', 'bar, jsonl or none'],
    ['-q, --quiet', 'print only errors'],
    FORCE_SHARE_OPTION,
    ALLOW_OPTION,
    ['--image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  async run(context, operands, options) {
    const json = wantsJson(options.output);
    const asked = [options.list, options.create, options.apply, options.delete].filter(
      (flag) => flag !== undefined,
    );
    if (asked.length > 1) throw usage("Cannot mix '-l', '-a', '-c', '-d'");
    if (operands.length === 0) throw usage('Expecting one image file name');
    if (context.likeQemuImg && asked.length === 0) return 0; // qemu-img opens the disk and does nothing
    const access = accessOf(context, options, operands);
    if (options.create !== undefined) await create(context, operands, options.create, options);
    else if (options.apply !== undefined) await apply(context, operands, options.apply, options);
    else if (options.delete !== undefined)
      await remove(context, operands, options.delete, access, options, json);
    else await list(context, operands, access, options, json);
    return 0;
  },
});

async function create(
  context: Context,
  names: readonly string[],
  snapshot: string,
  options: Options,
): Promise<void> {
  const disks = await disksOf(names, options, `create snapshot '${snapshot}' of`);
  const [first] = disks as [LifecycleDisk];
  const paths = disks.map((disk) => disk.path);
  await hereOrThere(
    context,
    paths,
    () => first.lifecycle.createSnapshot(paths, snapshot),
    (owner) => owner.snapshot(paths, snapshot),
  );
}

async function apply(
  context: Context,
  names: readonly string[],
  snapshot: string,
  options: Options,
): Promise<void> {
  const disks = await disksOf(names, options, `apply snapshot '${snapshot}' to`);
  for (const disk of disks) await requireSnapshot(disk, snapshot, 'apply');
  for (const { path, lifecycle } of disks) {
    const refuse = refuseServed(`apply snapshot '${snapshot}' to`, path);
    await hereOrThere(context, path, () => lifecycle.revertSnapshot(path, snapshot), refuse);
  }
}

async function remove(
  context: Context,
  names: readonly string[],
  snapshot: string,
  access: Access,
  options: Options,
  json: boolean,
): Promise<void> {
  const disks = await disksOf(names, options, `delete snapshot '${snapshot}' of`);
  for (const disk of disks) await requireSnapshot(disk, snapshot, 'delete');
  const shared = lifecycleContext(access);
  const plans: Record<string, unknown>[] = [];
  for (const { path, lifecycle } of disks) {
    const { plan: planOnly = false } = options;
    const { signal } = context;
    const plan = await withProgress(context, options, (onProgress) =>
      hereOrThere(
        context,
        path,
        () =>
          planOnly
            ? lifecycle.planDelete(path, snapshot)
            : lifecycle.deleteSnapshot(path, snapshot, { ...shared, signal, onProgress }),
        (owner) => owner.deleteSnapshot({ name: snapshot, plan: planOnly }, { signal, onProgress }),
      ),
    );
    plans.push({ filename: path, ...plan });
    if (options.plan && !json) {
      const moves = plan.bytes === 0 ? 'nothing is copied' : `${formatSize(plan.bytes)} are copied`;
      const freed = `${formatSize(plan.freed)} of storage are given back`;
      context.terminal.line(`${path}: deleting '${snapshot}': ${WAYS[plan.way]}; ${moves}, ${freed}`);
    }
  }
  if (json) context.terminal.json(plans);
}

const WAYS: Readonly<Record<'unlink' | 'down' | 'up', string>> = {
  unlink: 'its file is removed, nothing stands on it',
  down: 'its data moves into the layer above it',
  up: 'the data of the layer above moves into it',
};

/** Several disks work only where snapshots are layers; every one is looked at before any is changed. */
async function disksOf(names: readonly string[], options: Options, what: string): Promise<LifecycleDisk[]> {
  const disks: LifecycleDisk[] = [];
  for (const name of names) disks.push(await lifecycleDisk(name, options.format, what));
  return disks;
}

async function requireSnapshot(disk: LifecycleDisk, snapshot: string, op: string): Promise<void> {
  const snapshots = await disk.lifecycle.listSnapshots(disk.path);
  if (snapshots.some((each) => each.name === snapshot)) return;
  throw new VimgError('NOT_FOUND', `Could not ${op} snapshot '${snapshot}': snapshot not found`, {
    hint: `\`vimg snapshot -l ${disk.path}\` lists the snapshots of the disk`,
  });
}

async function list(
  context: Context,
  names: readonly string[],
  access: Access,
  options: Options,
  json: boolean,
): Promise<void> {
  const lists: { filename: string; snapshots: readonly SnapshotEntry[] }[] = [];
  for (const name of names) {
    const entries = await entriesOf(context, name, access, options);
    lists.push({ filename: name, snapshots: entries });
    if (json || entries.length === 0) continue;
    if (names.length > 1) context.terminal.line(`${name}:`);
    context.terminal.line('Snapshot list:');
    for (const line of snapshotTable(entries)) context.terminal.line(line);
  }
  if (json) context.terminal.json(names.length === 1 ? lists[0]?.snapshots : lists);
}

async function entriesOf(
  context: Context,
  name: string,
  access: Access,
  options: Options,
): Promise<SnapshotEntry[]> {
  const { lifecycle } = await driverOf(await filePath(name), formats, knownFormat(options.format, name));
  if (lifecycle !== undefined) {
    const snapshots = await lifecycle.listSnapshots(await filePath(name));
    return snapshots.map((snapshot, index) => ({
      ...snapshotEntry(asInfo(snapshot, index)),
      ...extra(snapshot),
    }));
  }
  const disk = await openDisk(context, name, access, { format: options.format, backing: false });
  try {
    return ((await disk.top.info()).snapshots ?? []).map(snapshotEntry);
  } finally {
    await disk.close();
  }
}

function asInfo(snapshot: LayerSnapshot, index: number): SnapshotInfo {
  return {
    id: String(index + 1),
    name: snapshot.name,
    dateMs: snapshot.dateMs,
    vmClockNs: 0,
    vmStateSize: 0,
    virtualSize: snapshot.virtualSize,
  };
}

function extra(snapshot: LayerSnapshot): Record<string, unknown> {
  return {
    'virtual-size': snapshot.virtualSize,
    uuid: snapshot.uuid,
    file: snapshot.path,
    'in-chain': snapshot.inChain,
    deleting: snapshot.deleting,
  };
}
