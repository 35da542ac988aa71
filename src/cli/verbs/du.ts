/** `vimg du`: what space a disk takes, and what for. */
import { formatSize } from '../../base/size.ts';
import { type DiskUsage, diskUsage } from '../../job/disk-usage.ts';
import { usage, wantsJson } from '../command-line.ts';
import { hereOrThere } from '../disk-owner.ts';
import { diskReference } from '../disk-reference.ts';
import { type Access, type AccessOptions, accessOf, openDisk } from '../open-disk.ts';
import { printable } from '../text/printable.ts';
import { shownPath } from '../text/shown-path.ts';
import {
  ALLOW_OPTION,
  type Context,
  defineVerb,
  FORCE_SHARE_OPTION,
  OUTPUT_OPTION,
  type Verb,
} from '../verb.ts';

interface Options extends AccessOptions {
  readonly output?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'du',
  summary: 'show what space a disk takes, and for what',
  operands: 'DISK…',
  details:
    'live: data that the guest reads. exclusive: space of the disk itself, free when it is deleted. shared: space of ' +
    'the layers behind it, on which other disks may stand. reclaimable: space that holds nothing the guest of this ' +
    'disk can read, estimated from below.',
  examples: ['du disk.vvd', 'du --output=json clone.vvd'],
  options: [
    ['-f, --format <format>', 'format of the disk; without it, its content tells'],
    OUTPUT_OPTION,
    FORCE_SHARE_OPTION,
    ALLOW_OPTION,
  ],
  async run(context, operands, options) {
    if (operands.length === 0) throw usage('Expecting an image file name');
    const json = wantsJson(options.output);
    const access = accessOf(context, options, operands);
    const results: Record<string, unknown>[] = [];
    for (const name of operands) {
      const { path, snapshot } = await diskReference(name);
      const usageHere = (): Promise<DiskUsage> => usageOf(context, name, access, options);
      const usageOfDisk =
        snapshot === undefined
          ? await hereOrThere(context, path, usageHere, (owner) => owner.usage(context.signal))
          : await usageHere();
      if (json) results.push(usageJson(name, usageOfDisk));
      else context.terminal.write(usageText(name, usageOfDisk));
    }
    if (json) context.terminal.json(results.length === 1 ? results[0] : results);
    return 0;
  },
});

async function usageOf(context: Context, name: string, access: Access, options: Options): Promise<DiskUsage> {
  const disk = await openDisk(context, name, access, { format: options.format });
  try {
    return await diskUsage(disk, { signal: context.signal });
  } finally {
    await disk.close();
  }
}

function usageText(name: string, disk: DiskUsage): string {
  const rows: readonly (readonly [string, number])[] = [
    ['virtual', disk.virtualSize],
    ['live', disk.liveBytes],
    ['exclusive', disk.exclusiveBytes],
    ['shared', disk.sharedBytes],
    ['reclaimable', disk.reclaimableBytes],
  ];
  const lines = rows.map(([label, bytes]) => `  ${`${label}:`.padEnd(13)}${formatSize(bytes)}`);
  if (disk.layers.length > 1) {
    lines.push('  layers:');
    for (const layer of disk.layers) {
      const sizes = `${formatSize(layer.allocatedBytes)} allocated, ${formatSize(layer.liveBytes)} live`;
      lines.push(`    ${printable(shownPath(layer.path, name))}: ${sizes}`);
    }
  }
  return `${printable(name)}\n${lines.join('\n')}\n`;
}

function usageJson(name: string, disk: DiskUsage): Record<string, unknown> {
  return {
    filename: name,
    'virtual-size': disk.virtualSize,
    live: disk.liveBytes,
    exclusive: disk.exclusiveBytes,
    shared: disk.sharedBytes,
    reclaimable: disk.reclaimableBytes,
    layers: disk.layers.map((layer) => ({
      filename: layer.path,
      format: layer.format,
      allocated: layer.allocatedBytes,
      live: layer.liveBytes,
    })),
  };
}
