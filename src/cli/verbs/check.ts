/** `vimg check`: looks for damage and lost space. Exit status 0 sound, 1 failed, 2 damaged, 3 leaks, 63 unsupported. */
import { formats } from '../../../formats/index.ts';
import { VimgError } from '../../base/errors.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { openFile } from '../../device/files.ts';
import type { CheckReport } from '../../image/check-report.ts';
import type { CheckOptions, FormatDriver } from '../../image/format-driver.ts';
import { probeFormat } from '../../image/probe.ts';
import { UncachedFiles } from '../../job/uncached-files.ts';
import { CACHE_OPTION_HELP, isUncached } from '../cache-mode.ts';
import { usage, wantsJson } from '../command-line.ts';
import { filePath } from '../disk-reference.ts';
import { type AccessOptions, accessOf, knownFormat } from '../open-disk.ts';
import { progressDisplay } from '../progress-display.ts';
import { checkJson, checkText, findingLine } from '../text/check-text.ts';
import {
  type Context,
  defineVerb,
  FORCE_SHARE_OPTION,
  OUTPUT_OPTION,
  QEMU_OBJECT_OPTION,
  type Verb,
} from '../verb.ts';

interface Options extends AccessOptions {
  readonly output?: string;
  readonly quiet?: boolean;
  readonly repair?: string;
  readonly scrub?: boolean;
  readonly undo?: string;
  readonly applyUndo?: string;
  readonly cache?: string;
  readonly progress?: string;
}

const UNSUPPORTED_STATUS = 63;
const NO_CHECKS = 'This image format does not support checks';

export const verb: Verb = defineVerb<Options>({
  name: 'check',
  summary: 'look for damage and lost space, and repair it',
  operands: 'DISK',
  details:
    'Exit status: 0 the disk is sound, 1 the check failed, 2 the disk is damaged, 3 space is lost but no data, ' +
    '63 the format has nothing to check.',
  examples: ['check disk.vvd', 'check --scrub golden.vvd', 'check -r leaks disk.vvd'],
  options: [
    ['-f, --format <format>', 'format of the disk; without it, its content tells'],
    OUTPUT_OPTION,
    ['-r, --repair <what>', 'repair leaks, or all that can be proven; what is overwritten is saved first'],
    ['--undo <file>', 'where it is saved; default: the name of the disk with .undo and the time'],
    ['--apply-undo <file>', 'put back what a repair overwrote, then check'],
    ['--scrub', 'read all data, and verify its checksums'],
    ['-q, --quiet', 'print only errors'],
    ['-T, --cache <mode>', CACHE_OPTION_HELP],
    ['--progress <style>', 'bar, jsonl or none'],
    FORCE_SHARE_OPTION,
    ['--image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  errorStatus: (error) => (error.message === NO_CHECKS ? UNSUPPORTED_STATUS : 1),
  async run(context, operands, options) {
    const [name] = operands;
    if (name === undefined || operands.length > 1) throw usage('Expecting one image file name');
    const json = wantsJson(options.output);
    const report = await check(context, await filePath(name), options);
    for (const finding of report.findings) context.terminal.note(findingLine(finding));
    if (json) context.terminal.json(checkJson(report, name));
    else if (!options.quiet) context.terminal.write(checkText(report));
    return statusOf(report);
  },
});

function statusOf(report: CheckReport): number {
  if (report.checkErrors > 0) return 1;
  if (report.corruptions > 0) return 2;
  return report.leaks > 0 ? 3 : 0;
}

async function check(context: Context, path: string, options: Options): Promise<CheckReport> {
  const { repair } = options;
  if (repair !== undefined && repair !== 'leaks' && repair !== 'all') {
    throw usage(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`);
  }
  if (repair !== undefined && options.applyUndo !== undefined) {
    throw usage('Cannot repair and put back what a repair overwrote at once');
  }
  const readOnly = repair === undefined && options.applyUndo === undefined;
  const uncached = isUncached(options.cache, 'source cache option');
  const { lock } = accessOf(context, options, [path]);
  const mode = readOnly ? 'read' : 'write';
  const file = await openFile(path, { readOnly, lock: lock ? mode : 'none' });
  const display = await progressDisplay(context, options);
  try {
    const driver = await driverOf(file, path, options.format);
    if (!driver.check) throw new VimgError('UNSUPPORTED', NO_CHECKS);
    if (options.applyUndo !== undefined) await putBack(context, driver, file, options.applyUndo);
    const undoPath = options.undo ?? `${path}.undo-${new Date().toISOString().replace(/[:.]/g, '-')}`;
    const startedMs = performance.now();
    const checkOptions: CheckOptions = {
      ...(repair === undefined ? {} : { repair, undoPath }),
      scrub: options.scrub ?? false,
      signal: context.signal,
      ...(display.onProgress === undefined
        ? {}
        : {
            onProgress: (fraction) =>
              display.onProgress?.({
                phase: 'checking',
                bytesDone: Math.round(fraction * file.size),
                bytesTotal: file.size,
                fraction,
                bytesPerSecond: 0,
                secondsElapsed: (performance.now() - startedMs) / 1000,
              }),
          }),
    };
    const report = await driver.check(file, checkOptions);
    const fixed = report.corruptionsFixed + report.leaksFixed;
    if (fixed > 0) context.terminal.note(`what the repair overwrote is saved in ${undoPath}`);
    return report;
  } finally {
    display.stop();
    if (uncached) new UncachedFiles(file).forget();
    await file.close();
  }
}

async function putBack(
  context: Context,
  driver: FormatDriver,
  file: BlockDevice,
  undoPath: string,
): Promise<void> {
  if (!driver.undoRepair)
    throw new VimgError('UNSUPPORTED', `Repairs of ${driver.name} images leave no undo file`);
  await driver.undoRepair(file, undoPath);
  context.terminal.note(`what the repair overwrote is put back from ${undoPath}`);
}

async function driverOf(file: BlockDevice, path: string, format: string | undefined): Promise<FormatDriver> {
  if (format !== undefined) return formats.get(knownFormat(format, path) as string);
  return (await probeFormat(file, formats)).driver;
}
