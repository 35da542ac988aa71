/**
 * `vimg inspect`: every structure of an image, as much as can be read of a damaged one; what a device of a volume says;
 * or a verdict on a foreign image. Nothing is written.
 */
import { formats } from '../../../formats/index.ts';
import { hexdump } from '../../binary/hexdump.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { openFile } from '../../device/files.ts';
import type { FormatDriver, InspectedStructure } from '../../image/format-driver.ts';
import { claimedFormats, readHead } from '../../image/probe.ts';
import { throwIfCancelled } from '../../job/job.ts';
import { judgeImage, type TrustVerdict } from '../../job/trust.ts';
import { vimsDriver } from '../../storage/vims-driver.ts';
import { usage, wantsJson } from '../command-line.ts';
import { filePath } from '../disk-reference.ts';
import { blockAddresses, inspectVolume, refuseBlocks, VOLUME_FORMAT } from '../inspect-volume.ts';
import { knownFormat } from '../open-disk.ts';
import { printable } from '../text/printable.ts';
import { structureText } from '../text/structure-text.ts';
import { type Context, defineVerb, OUTPUT_OPTION, repeated, type Verb } from '../verb.ts';

interface Options {
  readonly format?: string;
  readonly output?: string;
  readonly untrusted?: boolean;
  readonly block?: readonly string[];
}

/** What is shown of a file whose format is not known. */
const DUMP_BYTES = 512;

export const verb: Verb = defineVerb<Options>({
  name: 'inspect',
  summary: 'show every structure of a disk image or a volume, damaged or not',
  operands: 'FILE',
  details:
    'Of a device or LUN file that carries a volume: its superblocks, slot, journal and groups, or blocks of it. ' +
    'With --untrusted: a verdict on an image that came from somewhere else, with reasons; exit status 0 accept, ' +
    '1 reject. Nothing that the image refers to is opened.',
  examples: [
    'inspect disk.vvd',
    'inspect --output=json damaged.qcow2',
    'inspect --block 1024 lun.img',
    'inspect --untrusted --output=json upload.img',
  ],
  options: [
    ['-f, --format <format>', 'format of the file (vims: a volume); without it, its content tells'],
    [
      '--block <address>',
      'show this block of a volume: device × 2^40 + block on that device (repeatable)',
      repeated,
    ],
    ['--untrusted', 'judge the image instead: may it be handed to a tool that trusts it?'],
    OUTPUT_OPTION,
  ],
  async run(context, operands, options) {
    const [name] = operands;
    if (name === undefined || operands.length > 1) throw usage('Expecting one image file name');
    const json = wantsJson(options.output);
    const path = await filePath(name);
    const blocks = blockAddresses(options.block ?? []);
    if (options.untrusted && blocks.length > 0) {
      throw usage('Cannot judge an image and show a block of it at once');
    }
    if (options.untrusted) return judge(context, path, json);
    const file = await openFile(path, { readOnly: true });
    try {
      if (await isVolume(file, options.format)) {
        await inspectVolume(context, file, blocks, json);
        return 0;
      }
      refuseBlocks(blocks, path);
      const driver = await inspectable(file, path, options.format);
      if (driver?.inspect) await showStructures(context, driver, file, json);
      else await showBytes(context, file, json);
    } finally {
      await file.close();
    }
    return 0;
  },
});

async function judge(context: Context, path: string, json: boolean): Promise<number> {
  const verdict = await judgeImage(path, formats, { signal: context.signal });
  if (json) context.terminal.json(verdictJson(verdict));
  else {
    context.terminal.line(`${printable(path)}: ${verdict.verdict}`);
    for (const reason of verdict.reasons)
      context.terminal.line(`  ${reason.code}: ${printable(reason.message)}`);
  }
  return verdict.verdict === 'accept' ? 0 : 1;
}

function verdictJson(verdict: TrustVerdict): Record<string, unknown> {
  const { virtualSize, ...rest } = verdict;
  return { ...rest, ...(virtualSize === undefined ? {} : { 'virtual-size': virtualSize }) };
}

/** A disk that has the magic of another format in front may hold what is left of a volume: it is that disk. */
async function isVolume(file: BlockDevice, format: string | undefined): Promise<boolean> {
  if (format !== undefined) return format === VOLUME_FORMAT;
  if (claimedFormats(await readHead(file), file.size, formats).length > 0) return false;
  return vimsDriver.looksLike(file);
}

/** The driver whose magic the file carries, even if another would too; damaged files are what this verb is for. */
async function inspectable(
  file: BlockDevice,
  path: string,
  format: string | undefined,
): Promise<FormatDriver | undefined> {
  const named = knownFormat(format, path) ?? claimedFormats(await readHead(file), file.size, formats)[0];
  return formats.list().find((driver) => driver.name === named) ?? formats.forEnding(path);
}

async function showStructures(
  context: Context,
  driver: FormatDriver,
  file: BlockDevice,
  json: boolean,
): Promise<void> {
  const found: InspectedStructure[] = [];
  for await (const structure of driver.inspect?.(file) ?? []) {
    throwIfCancelled(context.signal);
    if (json) found.push(structure);
    else context.terminal.write(structureText(structure));
  }
  if (json)
    context.terminal.json({ filename: file.name, format: driver.name, size: file.size, structures: found });
}

async function showBytes(context: Context, file: BlockDevice, json: boolean): Promise<void> {
  const bytes = Buffer.alloc(Math.min(DUMP_BYTES, file.size));
  await file.pread(bytes, 0);
  if (json)
    context.terminal.json({
      filename: file.name,
      size: file.size,
      structures: [],
      head: bytes.toString('hex'),
    });
  else
    context.terminal.write(
      `no known format; the first ${bytes.length} of ${file.size} bytes:\n${hexdump(bytes)}\n`,
    );
}
