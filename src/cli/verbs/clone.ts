/** `vimg clone`: a linked clone, in constant time; or a full copy. */
import { formats } from '../../../formats/index.ts';
import { VimgError } from '../../base/errors.ts';
import { fileExists } from '../../device/files.ts';
import { type CloneResult, cloneSnapshotName, linkedClone } from '../../image/clone.ts';
import { convertDisk } from '../../job/convert.ts';
import { usage, wantsJson } from '../command-line.ts';
import { hereOrThere } from '../disk-owner.ts';
import { diskReference, filePath } from '../disk-reference.ts';
import { parseFormatOptions } from '../format-options.ts';
import { lifecycleContext } from '../lifecycle-disk.ts';
import {
  type Access,
  type AccessOptions,
  accessOf,
  knownFormat,
  openDisk,
  targetDriver,
} from '../open-disk.ts';
import { type ProgressOptions, progressDisplay } from '../progress-display.ts';
import { reopeningProblem, warnAboutReopening } from '../reopening.ts';
import { ALLOW_OPTION, type Context, defineVerb, OUTPUT_OPTION, repeated, type Verb } from '../verb.ts';

interface Options extends AccessOptions, ProgressOptions {
  readonly full?: boolean;
  readonly options?: readonly string[];
  readonly targetFormat?: string;
  readonly output?: string;
}

export const verb: Verb = defineVerb<Options>({
  name: 'clone',
  summary: 'make a linked clone, or a full copy',
  operands: 'DISK[@SNAPSHOT] NEW',
  details:
    'A linked clone is a new vvd disk that stands on the old one and takes space only for what is written to it. ' +
    'A disk that is still written takes a snapshot first, and stays writable.',
  examples: ['clone golden.vvd web-1.vvd', 'clone disk.vvd@before try.vvd', 'clone --full disk.vvd copy.vvd'],
  options: [
    ['--full', 'copy the data: the new disk stands on nothing'],
    ['-f, --format <format>', 'format of the old disk; without it, its content tells'],
    ['-O, --target-format <format>', 'with --full: format of the new disk'],
    ['-o, --options <options>', 'options of the new disk: name=value,… (repeatable)', repeated],
    ['-p', 'show progress'],
    ['--progress <style>', 'bar, jsonl or none'],
    ['-q, --quiet', 'print only errors'],
    OUTPUT_OPTION,
    ALLOW_OPTION,
  ],
  async run(context, operands, options) {
    const [source, target] = operands;
    if (source === undefined || target === undefined || operands.length > 2) {
      throw usage('Expecting the disk and the name of the new one');
    }
    const json = wantsJson(options.output);
    const path = await filePath(target);
    if (await fileExists(path)) {
      throw new VimgError('EXISTS', 'The file exists already', {
        op: 'create',
        path,
        hint: 'a clone never replaces a file: choose another name, or remove the file',
      });
    }
    const access = accessOf(context, options, [source]);
    if (options.full) await copy(context, source, path, access, options);
    else await link(context, source, path, access, options, json);
    return 0;
  },
});

async function copy(
  context: Context,
  source: string,
  path: string,
  access: Access,
  options: Options,
): Promise<void> {
  const disk = await openDisk(context, source, access, { format: options.format, trusts: 'copy' });
  try {
    const driver = targetDriver(context, options.targetFormat, path);
    const { values } = parseFormatOptions(options.options ?? [], driver);
    const display = await progressDisplay(context, options);
    await convertDisk(
      disk,
      { path, format: driver.name, options: values },
      { formats, access, signal: context.signal, onProgress: display.onProgress },
    ).finally(() => display.stop());
  } finally {
    await disk.close();
  }
}

async function link(
  context: Context,
  source: string,
  path: string,
  access: Access,
  options: Options,
  json: boolean,
): Promise<void> {
  const reference = await diskReference(source);
  const { values } = parseFormatOptions(options.options ?? [], formats.get('vvd'));
  const clone = (snapshot: string | undefined): Promise<CloneResult> =>
    linkedClone(reference.path, path, {
      ...lifecycleContext(access),
      snapshot,
      format: knownFormat(options.format, reference.path),
      options: values,
    });
  const result =
    reference.snapshot === undefined
      ? await hereOrThere(
          context,
          reference.path,
          () => clone(undefined),
          async (owner) => {
            const name = cloneSnapshotName(new Date());
            await owner.snapshotForClone(name, path);
            return { ...(await clone(name)), recorded: true };
          },
        )
      : await clone(reference.snapshot);
  if (json) {
    const problem = await reopeningProblem(context, path);
    const warnings = problem === undefined ? {} : { warnings: [problem.toJSON()] };
    context.terminal.json({ filename: path, base: result.base, recorded: result.recorded, ...warnings });
    return;
  }
  if (!options.quiet) await warnAboutReopening(context, path);
  if (!result.recorded && !options.quiet) {
    context.terminal.note(
      `${result.base} is in use and does not know of this clone: do not delete it meanwhile`,
    );
  }
}
