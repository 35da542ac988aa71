/** `vimg create`: a new, empty disk; with `-b` one that stands on another. */
import { formats } from '../../../formats/index.ts';
import { VimgError } from '../../base/errors.ts';
import { parseSize } from '../../base/size.ts';
import { folderOf, resolvePath } from '../../device/file-path.ts';
import { fileExists } from '../../device/files.ts';
import { createImage } from '../../image/create-image.ts';
import type { FormatDriver } from '../../image/format-driver.ts';
import { usage } from '../command-line.ts';
import { filePath } from '../disk-reference.ts';
import {
  asksForOptionHelp,
  optionHelp,
  type ParsedFormatOptions,
  parseFormatOptions,
} from '../format-options.ts';
import {
  type Access,
  type AccessOptions,
  accessOf,
  knownFormat,
  openDisk,
  targetDriver,
} from '../open-disk.ts';
import { warnAboutReopening } from '../reopening.ts';
import { formattingLine } from '../text/formatting-line.ts';
import { ALLOW_OPTION, type Context, defineVerb, QEMU_OBJECT_OPTION, repeated, type Verb } from '../verb.ts';

interface Options extends AccessOptions {
  readonly quiet?: boolean;
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly backingUnsafe?: boolean;
  readonly options?: readonly string[];
  readonly ifNotExists?: boolean;
}

interface Backing {
  readonly path: string;
  readonly format?: string | undefined;
}

export const verb: Verb = defineVerb<Options>({
  name: 'create',
  summary: 'make a new, empty disk',
  operands: 'DISK [SIZE]',
  details:
    'The format is the one of -f, else the one of the file ending, else vvd. SIZE is in bytes, or with one of the ' +
    'suffixes k M G T P E; a disk on a backing file takes its size. `-o help` lists the options of a format.',
  examples: [
    'create disk.vvd 20G',
    'create -o block_size=1M,provisioning=thick disk.vvd 20G',
    'create -b base.qcow2 -F qcow2 overlay.vvd',
  ],
  options: [
    ['-f, --format <format>', 'format of the new disk'],
    ['-o, --options <options>', 'options of the format: name=value,… (repeatable)', repeated],
    ['-b, --backing <disk>', 'the disk that the new one stands on, as seen from the new one'],
    ['-F, --backing-format <format>', 'format of that disk'],
    ['-u, --backing-unsafe', 'do not open the backing file'],
    ['-q, --quiet', 'print only errors'],
    ['--if-not-exists', 'do nothing, successfully, when the file is there already'],
    ALLOW_OPTION,
    QEMU_OBJECT_OPTION,
  ],
  async run(context, operands, options) {
    const [name, sizeText, extra] = operands;
    const texts = options.options ?? [];
    if (asksForOptionHelp(texts)) {
      context.terminal.write(optionHelp(targetDriver(context, options.format, name ?? '')));
      return 0;
    }
    if (name === undefined) throw usage('Expecting image file name');
    if (extra !== undefined) throw usage(`Unexpected argument: ${extra}`);
    const path = await filePath(name);
    if (options.ifNotExists && (await fileExists(path))) return 0;
    const driver = targetDriver(context, options.format, path);
    const parsed = parseFormatOptions(texts, driver);
    const given = await givenBacking(path, options, parsed, driver);
    const access = accessOf(context, options, given ? [resolvePath(folderOf(path), given.path)] : []);
    const known = await checkBacking(context, path, given, options, access);
    const size = sizeOf(path, sizeText, parsed) ?? known?.size;
    if (size === undefined) throw new VimgError('USAGE', `${path}: Image creation needs a size parameter`);
    if (!options.quiet)
      context.terminal.line(formattingLine(path, driver, size, parsed.values, known?.backing));
    await createImage(path, {
      formats,
      format: driver.name,
      size,
      options: parsed.values,
      ...(known === undefined
        ? {}
        : { backing: { ...known.backing, unchecked: options.backingUnsafe ?? false } }),
      open: access,
    });
    if (known !== undefined && !options.backingUnsafe && !options.quiet)
      await warnAboutReopening(context, path);
    return 0;
  },
});

function sizeOf(path: string, text: string | undefined, parsed: ParsedFormatOptions): number | undefined {
  if (text === undefined) return parsed.common.size;
  if (parsed.common.size !== undefined) throw usage(`${path}: The image size must be specified only once`);
  return parseSize(text);
}

async function givenBacking(
  path: string,
  options: Options,
  parsed: ParsedFormatOptions,
  driver: FormatDriver,
): Promise<Backing | undefined> {
  const backing = options.backing ?? parsed.common.backingFile;
  const format = options.backingFormat ?? parsed.common.backingFormat;
  if (backing === undefined) {
    if (format !== undefined)
      throw usage(`${path}: a backing format needs a backing file`, 'name it with -b');
    return undefined;
  }
  if (!driver.can.backing)
    throw usage(`${path}: Backing file not supported for file format '${driver.name}'`);
  return { path: await filePath(backing), format: knownFormat(format, backing) };
}

/** Opens the backing file, unless told not to: its size is the new disk's, and its format is written down. */
async function checkBacking(
  context: Context,
  path: string,
  given: Backing | undefined,
  options: Options,
  access: Access,
): Promise<{ backing: Backing; size: number | undefined } | undefined> {
  if (given === undefined) return undefined;
  if (options.backingUnsafe) return { backing: given, size: undefined };
  const disk = await openDisk(context, resolvePath(folderOf(path), given.path), access, {
    format: given.format,
    trusts: 'build on',
  });
  try {
    if (given.format === undefined && context.likeQemuImg) {
      throw usage(
        `${path}: Backing file specified without backing format`,
        `Detected format of ${disk.format}.`,
      );
    }
    return { backing: { path: given.path, format: disk.format }, size: disk.virtualSize };
  } finally {
    await disk.close();
  }
}
