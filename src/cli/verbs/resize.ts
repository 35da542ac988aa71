/** `vimg resize`: the size that a guest sees. Shrinking has to be asked for: it throws data away. */
import { VimgError } from '../../base/errors.ts';
import { formatSize, parseSize } from '../../base/size.ts';
import { preallocate } from '../../job/preallocate.ts';
import { usage } from '../command-line.ts';
import { hereOrThere } from '../disk-owner.ts';
import { diskReference } from '../disk-reference.ts';
import { type AccessOptions, accessOf, openDisk } from '../open-disk.ts';
import { ALLOW_OPTION, type Context, defineVerb, QEMU_OBJECT_OPTION, type Verb } from '../verb.ts';

interface Options extends AccessOptions {
  readonly shrink?: boolean;
  readonly quiet?: boolean;
  readonly preallocation?: string;
}

/** The size that is asked for, of a disk that has this one. */
type SizeChange = (oldSize: number, format: string) => number;
type Preallocation = 'off' | 'falloc' | 'full';

const SECTOR = 512;

export const verb: Verb = defineVerb<Options>({
  name: 'resize',
  summary: 'change the size of a disk',
  operands: 'DISK [+|-]SIZE',
  details: 'Inside the guest, partitions and file systems are to be grown after this, or shrunk before it.',
  examples: ['resize disk.vvd 40G', 'resize disk.vvd +10G', 'resize --shrink disk.vvd 20G'],
  lastOperandIsFree: true,
  options: [
    ['-f, --format <format>', 'format of the disk; a raw disk must be named so'],
    ['--shrink', 'allow the disk to become smaller: what is behind its new end is lost'],
    ['--preallocation <mode>', 'for the new space: off (default), falloc or full'],
    ['-q, --quiet', 'print only errors'],
    ALLOW_OPTION,
    ['--image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  async run(context, operands, options) {
    const [name, change] = operands;
    if (name === undefined || change === undefined) throw usage('Expecting image file name and size');
    if (operands.length > 2) throw usage(`Unexpected argument: ${operands[2]}`);
    const preallocation = options.preallocation ?? 'off';
    if (!['off', 'falloc', 'full'].includes(preallocation)) {
      throw usage(`Invalid preallocation mode '${preallocation}'`, 'it is off, falloc or full');
    }
    parseSize(change.replace(/^[+-]/, '')); // before the disk is touched
    const sizes: SizeChange = (oldSize, format) => {
      const newSize = sizeAfter(oldSize, change, format === 'raw');
      refuseBadSize(context, oldSize, newSize, options);
      if (preallocation !== 'off' && newSize <= oldSize) {
        throw usage('Preallocation can only be used for growing images');
      }
      return newSize;
    };
    const { signal } = context;
    const { path } = await diskReference(name);
    await hereOrThere(
      context,
      path,
      () => resizeHere(context, name, sizes, preallocation as Preallocation, options),
      async (owner) => {
        const { size: from, format } = owner.disk;
        await owner.resize(
          { from, to: sizes(from, format), preallocation: preallocation as Preallocation },
          signal,
        );
      },
    );
    if (!options.quiet) context.terminal.line('Image resized.');
    return 0;
  },
});

async function resizeHere(
  context: Context,
  name: string,
  sizes: SizeChange,
  preallocation: Preallocation,
  options: Options,
): Promise<void> {
  const disk = await openDisk(context, name, accessOf(context, options, [name]), {
    format: options.format,
    readOnly: false,
    trusts: 'resize',
  });
  try {
    const oldSize = disk.virtualSize;
    const newSize = sizes(oldSize, disk.format);
    await disk.resize(newSize);
    if (preallocation !== 'off') await preallocate(disk, oldSize, newSize, preallocation, context.signal);
    await disk.flush();
  } finally {
    await disk.close();
  }
}

/** @param rounded the format keeps whole sectors itself, as when it is created */
function sizeAfter(oldSize: number, change: string, rounded: boolean): number {
  const sign = /^[+-]/.exec(change)?.[0];
  const bytes = parseSize(sign === undefined ? change : change.slice(1));
  const asked = sign === undefined ? bytes : sign === '+' ? oldSize + bytes : oldSize - bytes;
  const newSize = rounded ? Math.ceil(asked / SECTOR) * SECTOR : asked;
  if (newSize <= 0) throw usage('New image size must be positive');
  if (!Number.isSafeInteger(newSize)) throw new VimgError('LIMIT', 'The new size is too large');
  return newSize;
}

function refuseBadSize(context: Context, oldSize: number, newSize: number, options: Options): void {
  if (newSize % SECTOR !== 0) throw usage('The new size must be a multiple of 512');
  if (newSize >= oldSize || options.shrink) return;
  if (context.likeQemuImg) {
    context.terminal.note(`${context.program}: Use the --shrink option to perform a shrink operation.`);
    throw usage(
      "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an " +
        'operation, make sure there is no important data there.',
    );
  }
  throw usage(
    'Use the --shrink option to perform a shrink operation.',
    `everything behind ${formatSize(newSize)} will be lost: shrink partitions and file systems in the guest first`,
  );
}
