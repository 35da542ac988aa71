/** `vimg measure`: how large the file of a converted, or of a new, disk will be. */
import { parseSize } from '../../base/size.ts';
import { type Measurement, measureImage } from '../../job/measure.ts';
import { usage, wantsJson } from '../command-line.ts';
import { asksForOptionHelp, optionHelp, parseFormatOptions } from '../format-options.ts';
import { type AccessOptions, accessOf, openDisk, targetDriver } from '../open-disk.ts';
import { snapshotParameter } from '../snapshot-parameter.ts';
import {
  ALLOW_OPTION,
  defineVerb,
  FORCE_SHARE_OPTION,
  OUTPUT_OPTION,
  QEMU_OBJECT_OPTION,
  repeated,
  type Verb,
} from '../verb.ts';

interface Options extends AccessOptions {
  readonly targetFormat?: string;
  readonly options?: readonly string[];
  readonly size?: string;
  readonly snapshot?: string;
  readonly output?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'measure',
  summary: 'tell how much space a converted disk will need',
  operands: '[DISK]',
  examples: [
    'measure -O qcow2 disk.vvd',
    'measure -O vvd --size 100G',
    'measure --output=json -O raw disk.qcow2',
  ],
  options: [
    ['-O, --target-format <format>', 'format of the disk to be made (default raw)'],
    ['-o, --options <options>', 'its options: name=value,… (repeatable)', repeated],
    ['-f, --format <format>', 'format of the disk to be converted'],
    ['-l, --snapshot <snapshot>', 'measure this snapshot of it'],
    ['--size <size>', 'measure an empty disk of this size instead'],
    OUTPUT_OPTION,
    FORCE_SHARE_OPTION,
    ALLOW_OPTION,
    ['--image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  async run(context, operands, options) {
    const [name] = operands;
    const json = wantsJson(options.output);
    const driver = targetDriver(context, options.targetFormat ?? 'raw', '');
    const texts = options.options ?? [];
    if (asksForOptionHelp(texts)) {
      context.terminal.write(optionHelp(driver));
      return 0;
    }
    if (operands.length > 1) throw usage('At most one filename argument is allowed.');
    if (options.size !== undefined && name !== undefined)
      throw usage('--size N cannot be used together with a filename.');
    const { values } = parseFormatOptions(texts, driver);
    const print = (measured: Measurement): number => {
      if (json) context.terminal.json(measurementJson(measured));
      else context.terminal.write(measurementText(measured));
      return 0;
    };
    if (options.size !== undefined) return print(await measureImage(parseSize(options.size), driver, values));
    if (name === undefined) throw usage('Either --size N or one filename must be specified.');
    const disk = await openDisk(context, name, accessOf(context, options, operands), {
      format: options.format,
      snapshot: snapshotParameter(options.snapshot),
    });
    try {
      const measured = await measureImage(disk, driver, values, { signal: context.signal });
      return print(measured);
    } finally {
      await disk.close();
    }
  },
});

function measurementText(measured: Measurement): string {
  const lines = [`required size: ${measured.required}`, `fully allocated size: ${measured.fullyAllocated}`];
  if (measured.bitmaps !== undefined) lines.push(`bitmaps size: ${measured.bitmaps}`);
  return `${lines.join('\n')}\n`;
}

function measurementJson(measured: Measurement): Record<string, number> {
  return {
    ...(measured.bitmaps === undefined ? {} : { bitmaps: measured.bitmaps }),
    required: measured.required,
    'fully-allocated': measured.fullyAllocated,
  };
}
