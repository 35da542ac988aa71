/** `vimg map`: where each range of a disk is stored, over its whole chain. */
import { VimgError } from '../../base/errors.ts';
import { parseSize } from '../../base/size.ts';
import type { MapExtent } from '../../image/disk-image.ts';
import { mapDisk } from '../../job/disk-map.ts';
import { usage, wantsJson } from '../command-line.ts';
import { hereOrThere } from '../disk-owner.ts';
import { diskReference } from '../disk-reference.ts';
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
    const printer = json ? new JsonPrinter(context.terminal, start) : new LinePrinter(context.terminal, name);
    const { signal } = context;
    const here = async (): Promise<void> => {
      const disk = await openDisk(context, name, accessOf(context, options, operands), {
        format: options.format,
      });
      try {
        const range = { offset: start, signal, ...(length === undefined ? {} : { length }) };
        for await (const extent of mapDisk(disk, range)) printer.print(extent);
      } finally {
        await disk.close();
      }
    };
    const { path, snapshot } = await diskReference(name);
    if (snapshot !== undefined) await here();
    else {
      await hereOrThere(context, path, here, (owner) =>
        owner.map(
          { offset: start, length: length ?? null },
          (extents) => {
            for (const extent of extents) printer.print(extent);
          },
          signal,
        ),
      );
    }
    printer.finish();
    return 0;
  },
});

/** Prints extents as they come. */
interface Printer {
  print(extent: MapExtent): void;
  finish(): void;
}

class JsonPrinter implements Printer {
  readonly #terminal: Terminal;
  readonly #start: number;
  #separator = '[';

  constructor(terminal: Terminal, start: number) {
    this.#terminal = terminal;
    this.#start = start;
  }

  print(extent: MapExtent): void {
    this.#terminal.write(`${this.#separator}${mapJson(extent)}`);
    this.#separator = ',\n';
  }

  finish(): void {
    if (this.#separator === '[') this.#terminal.write(`[${mapJson(emptyExtent(this.#start))}`);
    this.#terminal.write(']\n');
  }
}

/** What qemu-img prints when the range is empty. */
function emptyExtent(offset: number): MapExtent {
  return { offset, length: 0, depth: 0, present: false, zero: false, data: false, compressed: false };
}

class LinePrinter implements Printer {
  readonly #terminal: Terminal;
  readonly #name: string;
  #headed = false;

  constructor(terminal: Terminal, name: string) {
    this.#terminal = terminal;
    this.#name = name;
  }

  print(extent: MapExtent): void {
    this.#head();
    if (!extent.data) return;
    if (extent.fileOffset === undefined) {
      throw new VimgError('UNSUPPORTED', 'File contains external, encrypted or compressed clusters.', {
        hint: `\`map --output=json ${this.#name}\` shows those too`,
      });
    }
    this.#terminal.line(mapLine(extent, shownPath(extent.fileName ?? '', this.#name)));
  }

  finish(): void {
    this.#head();
  }

  #head(): void {
    if (!this.#headed) this.#terminal.line(MAP_HEADING);
    this.#headed = true;
  }
}
