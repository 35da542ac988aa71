/** `vimg convert`: the content of one disk, or of several one behind the other, as a new image. */
import { formats } from '../../../formats/index.ts';
import type { VimgError } from '../../base/errors.ts';
import { formatSize } from '../../base/size.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { folderOf, resolvePath } from '../../device/file-path.ts';
import { JoinedDevice } from '../../device/joined-device.ts';
import type { DiskImage } from '../../image/disk-image.ts';
import type { FormatDriver } from '../../image/format-driver.ts';
import { type ConvertResult, type ConvertTarget, convertDisk, refuseSameFile } from '../../job/convert.ts';
import { usage } from '../command-line.ts';
import { type ConvertFlags, type ConvertPlan, planConvert } from '../convert-flags.ts';
import { filePath } from '../disk-reference.ts';
import { asksForOptionHelp, optionHelp, parseFormatOptions } from '../format-options.ts';
import { type Access, accessOf, openDisk, targetDriver } from '../open-disk.ts';
import { progressDisplay } from '../progress-display.ts';
import {
  ALLOW_OPTION,
  type Context,
  defineVerb,
  FORCE_SHARE_OPTION,
  QEMU_OBJECT_OPTION,
  repeated,
  type Verb,
} from '../verb.ts';

export const verb: Verb = defineVerb<ConvertFlags>({
  name: 'convert',
  summary: 'copy a disk into another format',
  operands: 'DISK [DISK…] TARGET',
  details:
    'Several disks are joined, one behind the other. The format of TARGET is the one of -O, else the one of its file ' +
    'ending, else vvd. TARGET gets its name when it is complete and safe on the disk; until then an older file of that ' +
    'name stays as it is.',
  examples: [
    'convert -p cloud-image.qcow2 disk.vvd',
    'convert -c -O qcow2 disk.vvd small.qcow2',
    'convert -f raw -O vvd -o compression=zstd -c /dev/sdb disk.vvd',
    'convert disk.vvd@before before.raw',
  ],
  options: [
    ['-f, --format <format>', 'format of the disks; without it, their content tells'],
    ['-O, --target-format <format>', 'format of TARGET'],
    ['-o, --options <options>', 'options of the format: name=value,… (repeatable)', repeated],
    ['-c, --compress', 'compress the data'],
    ['-l, --snapshot <snapshot>', 'convert this snapshot of the disk'],
    [
      '-B, --backing <disk>',
      'let TARGET stand on this disk (as seen from TARGET), and store only what differs',
    ],
    ['-F, --backing-format <format>', 'format of that disk'],
    [
      '-S, --sparse-size <size>',
      'leave out runs of zeroes at least so long (default 4k); 0 writes everything',
    ],
    ['-n, --no-create', 'TARGET exists: write into it'],
    ['--target-is-zero', 'with -n: TARGET is known to read as zeroes'],
    ['--seal', 'seal TARGET: read-only for good, with checksums of its data'],
    ['-p', 'show progress'],
    ['--progress <style>', 'bar, jsonl or none'],
    ['-q, --quiet', 'print only errors'],
    [
      '-t, --target-cache <mode>',
      'unsafe: do not wait until TARGET is safe on the disk; none, directsync: leave nothing of it in the ' +
        "host's cache; writeback (default), writethrough: only make it safe",
    ],
    ['-T, --source-cache <mode>', "none, directsync: leave nothing of the disks in the host's cache"],
    ['-m, --parallel <number>', 'pieces under way at once: 1 to 16 (default 4)'],
    ['-W, --oob', 'write pieces as they come, several at once, instead of in order'],
    [
      '-C, --copy-range-offloading',
      'let the kernel copy plain data into a raw TARGET, without looking for zeroes in it',
    ],
    ['-r, --rate-limit <rate>', 'bytes a second, at most'],
    ['--salvage', 'where a disk cannot be read, warn and write zeroes'],
    ['--bitmaps', 'not supported'],
    FORCE_SHARE_OPTION,
    ALLOW_OPTION,
    ['--image-opts', 'not supported'],
    ['--target-image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  async run(context, operands, flags) {
    const sources = operands.slice(0, -1);
    const target = operands.at(-1);
    const texts = flags.options ?? [];
    if (asksForOptionHelp(texts)) {
      context.terminal.write(optionHelp(targetDriver(context, flags.targetFormat, target ?? '')));
      return 0;
    }
    if (target === undefined || sources.length === 0) throw usage('Must specify image file name');
    const plan = planConvert(flags, sources);
    const path = await filePath(target);
    const driver = targetDriver(context, flags.targetFormat, path);
    const access = accessOf(context, flags, [...sources, ...backingOf(path, flags)]);
    const disks: DiskImage[] = [];
    try {
      for (const name of sources) {
        disks.push(
          await openDisk(context, name, access, {
            format: flags.format,
            snapshot: plan.snapshot,
            trusts: 'convert',
          }),
        );
      }
      const convertTarget = await targetOf(path, driver, texts, flags, plan);
      const result = await runConvert(context, disks, convertTarget, access, flags, plan);
      summarize(context, flags, result);
    } finally {
      for (const disk of disks) await disk.close();
    }
    return 0;
  },
});

/** Where the file of -B is; the target's own folder lets no header read from it. */
function backingOf(target: string, flags: ConvertFlags): string[] {
  return flags.backing === undefined ? [] : [resolvePath(folderOf(target), flags.backing)];
}

async function targetOf(
  path: string,
  driver: FormatDriver,
  texts: readonly string[],
  flags: ConvertFlags,
  plan: ConvertPlan,
): Promise<ConvertTarget> {
  const { values, common } = parseFormatOptions(texts, driver);
  if (common.size !== undefined)
    throw usage('The size of the target is the size of the source', 'leave size= out of -o');
  const backing = flags.backing ?? common.backingFile;
  const backingFormat = flags.backingFormat ?? common.backingFormat;
  if (backing !== undefined && plan.existing)
    throw usage('-B has no meaning for an existing target', 'leave out -n or -B');
  if (backing !== undefined && plan.sources > 1) {
    throw usage(
      'Having a backing file for the target makes no sense when concatenating multiple input images',
    );
  }
  return {
    path,
    format: driver.name,
    options: values,
    ...(backing === undefined ? {} : { backing: { path: await filePath(backing), format: backingFormat } }),
    existing: plan.existing,
    zeroed: plan.zeroed,
  };
}

async function runConvert(
  context: Context,
  disks: readonly DiskImage[],
  target: ConvertTarget,
  access: Access,
  flags: ConvertFlags,
  plan: ConvertPlan,
): Promise<ConvertResult> {
  const source: BlockDevice = disks.length === 1 ? (disks[0] as DiskImage) : new JoinedDevice(disks);
  for (const disk of disks) await refuseSameFile(disk, target.path);
  const display = await progressDisplay(context, flags);
  try {
    return await convertDisk(source, target, {
      formats,
      access,
      signal: context.signal,
      onProgress: display.onProgress,
      compress: flags.compress ?? false,
      sparseSize: plan.sparseSize,
      parallel: plan.parallel,
      unordered: flags.oob ?? false,
      durable: plan.durable,
      offload: plan.offload,
      uncached: plan.uncached,
      seal: flags.seal ?? false,
      ...(plan.rateLimit === undefined ? {} : { rateLimit: plan.rateLimit }),
      ...(flags.salvage ? { onUnreadable: (...where) => warnUnreadable(context, ...where) } : {}),
    });
  } finally {
    display.stop();
  }
}

function warnUnreadable(context: Context, offset: number, length: number, error: VimgError): void {
  context.terminal.note(
    `${context.program}: warning: zeroes instead of ${length} bytes at ${offset}: ${error.message}`,
  );
}

/** On a terminal: what the cost followed. */
function summarize(context: Context, flags: ConvertFlags, result: ConvertResult): void {
  if (!context.terminal.interactive || context.likeQemuImg || flags.quiet) return;
  const parts = [`virtual ${formatSize(result.virtualSize)}`];
  if (result.dataBytes !== undefined) parts.push(`data ${formatSize(result.dataBytes)}`);
  if (result.allocatedBytes !== undefined) parts.push(`written ${formatSize(result.allocatedBytes)}`);
  context.terminal.note(parts.join(' · '));
}
