/** `vimg map`: where each range of a disk is stored, over its whole chain. */
import { VimgError } from '../../base/errors.ts';
import { parseSize } from '../../base/size.ts';
import type { MapExtent } from '../../image/disk-image.ts';
import { mapDisk } from '../../job/disk-map.ts';
import { usage, wantsJson } from '../command-line.ts';
import { type AccessOptions, accessOf, openDisk } from '../open-disk.ts';
import type { Terminal } from '../terminal.ts';
import { MAP_HEADING, mapJson, mapLine } from '../text/map-text.ts';
import { shownPath } from '../text/shown-path.ts';
import {
  ALLOW_OPTION,
  defineVerb,
  FORCE_SHARE_OPTION,
  OUTPUT_OPTION,
  QEMU_OBJECT_OPTION,
  type Verb,
} from '../verb.ts';

interface Options extends AccessOptions {
  readonly output?: string;
  readonly startOffset?: string;
  readonly maxLength?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'map',
  summary: 'show where each range of a disk is stored',
  operands: 'DISK',
  examples: ['map disk.vvd', 'map --output=json --start-offset=1G --max-length=64M disk.qcow2'],
  options: [
    ['-f, --format <format>', 'format of the disk; without it, its content tells'],
    OUTPUT_OPTION,
    ['-s, --start-offset <offset>', 'begin here'],
    ['-l, --max-length <length>', 'show this much'],
    FORCE_SHARE_OPTION,
    ALLOW_OPTION,
    ['--image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  async run(context, operands, options) {
    const [name] = operands;
    if (name === undefined || operands.length > 1) throw usage('Expecting one image file name');
    const json = wantsJson(options.output);
    const start = options.startOffset === undefined ? 0 : parseSize(options.startOffset);
    const length = options.maxLength === undefined ? undefined : parseSize(options.maxLength);
    const disk = await openDisk(context, name, accessOf(context, options, operands), {
      format: options.format,
    });
    try {
      const extents = mapDisk(disk, {
        offset: start,
        signal: context.signal,
        ...(length === undefined ? {} : { length }),
      });
      if (json) await printJson(context.terminal, extents, start);
      else await printLines(context.terminal, extents, name);
    } finally {
      await disk.close();
    }
    return 0;
  },
});

async function printJson(
  terminal: Terminal,
  extents: AsyncGenerator<MapExtent>,
  start: number,
): Promise<void> {
  let separator = '[';
  for await (const extent of extents) {
    terminal.write(`${separator}${mapJson(extent)}`);
    separator = ',\n';
  }
  if (separator === '[') terminal.write(`[${mapJson(emptyExtent(start))}`);
  terminal.write(']\n');
}

/** What qemu-img prints when the range is empty. */
function emptyExtent(offset: number): MapExtent {
  return { offset, length: 0, depth: 0, present: false, zero: false, data: false, compressed: false };
}

async function printLines(
  terminal: Terminal,
  extents: AsyncGenerator<MapExtent>,
  name: string,
): Promise<void> {
  terminal.line(MAP_HEADING);
  for await (const extent of extents) {
    if (!extent.data) continue;
    if (extent.fileOffset === undefined) {
      throw new VimgError('UNSUPPORTED', 'File contains external, encrypted or compressed clusters.', {
        hint: `\`map --output=json ${name}\` shows those too`,
      });
    }
    terminal.line(mapLine(extent, shownPath(extent.fileName ?? '', name)));
  }
}
