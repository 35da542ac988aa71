/** `vimg compare`: whether two disks hold the same. Exit status 0 the same, 1 different, 2 the comparison failed. */
import { type CompareResult, compareDisks } from '../../job/compare.ts';
import { CACHE_OPTION_HELP, isUncached } from '../cache-mode.ts';
import { usage, wantsJson } from '../command-line.ts';
import { type AccessOptions, accessOf, openDisk } from '../open-disk.ts';
import { type ProgressOptions, progressDisplay } from '../progress-display.ts';
import {
  ALLOW_OPTION,
  defineVerb,
  FORCE_SHARE_OPTION,
  OUTPUT_OPTION,
  QEMU_OBJECT_OPTION,
  type Verb,
} from '../verb.ts';

interface Options extends AccessOptions, ProgressOptions {
  readonly secondFormat?: string;
  readonly strict?: boolean;
  readonly output?: string;
  readonly cache?: string;
}

const FAILED_STATUS = 2;

export const verb: Verb = defineVerb<Options>({
  name: 'compare',
  summary: 'tell whether two disks hold the same',
  operands: 'DISK1 DISK2',
  details:
    'Exit status: 0 the same, 1 different, 2 the comparison failed. When one disk is longer, the rest of it has to ' +
    'be zero.',
  examples: ['compare disk.vvd disk.qcow2', 'compare disk.vvd@before disk.vvd', 'compare -s a.raw b.raw'],
  options: [
    ['-f, --format <format>', 'format of the first disk'],
    ['-F, --second-format <format>', 'format of the second disk'],
    ['-s, --strict', 'sizes, and what is allocated, must be the same too'],
    ['-p', 'show progress'],
    ['--progress <style>', 'bar, jsonl or none'],
    ['-q, --quiet', 'print only errors'],
    OUTPUT_OPTION,
    ['-T, --cache <mode>', CACHE_OPTION_HELP],
    FORCE_SHARE_OPTION,
    ALLOW_OPTION,
    ['--image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  errorStatus: () => FAILED_STATUS,
  async run(context, operands, options) {
    const [firstName, secondName] = operands;
    if (firstName === undefined || secondName === undefined || operands.length > 2) {
      throw usage('Expecting two image file names');
    }
    const json = wantsJson(options.output);
    const uncached = isUncached(options.cache, 'source cache option');
    const access = accessOf(context, options, operands);
    const first = await openDisk(context, firstName, access, { format: options.format });
    try {
      const second = await openDisk(context, secondName, access, { format: options.secondFormat });
      try {
        const display = await progressDisplay(context, { ...options, quiet: options.quiet ?? false });
        const result = await compareDisks(first, second, {
          strict: options.strict ?? false,
          uncached,
          signal: context.signal,
          onProgress: display.onProgress,
        }).finally(() => display.stop());
        if (json) context.terminal.json(resultJson(result));
        else if (!options.quiet)
          context.terminal.write(resultText(result, Math.min(first.size, second.size)));
        return result.identical ? 0 : 1;
      } finally {
        await second.close();
      }
    } finally {
      await first.close();
    }
  },
});

/** @param common bytes that both disks have: a difference there is told without a word about sizes */
function resultText(result: CompareResult, common: number): string {
  if (result.difference === 'size') return 'Strict mode: Image size mismatch!\n';
  if (result.difference === 'status') return `Strict mode: Offset ${result.offset} block status mismatch!\n`;
  const inCommon = result.offset !== undefined && result.offset < common;
  const warning = result.sizesDiffer && !inCommon ? 'Warning: Image size mismatch!\n' : '';
  const verdict = result.identical ? 'Images are identical.' : `Content mismatch at offset ${result.offset}!`;
  return `${warning}${verdict}\n`;
}

function resultJson(result: CompareResult): Record<string, unknown> {
  return {
    identical: result.identical,
    ...(result.difference === undefined ? {} : { difference: result.difference }),
    ...(result.offset === undefined ? {} : { offset: result.offset }),
    'sizes-differ': result.sizesDiffer,
  };
}
