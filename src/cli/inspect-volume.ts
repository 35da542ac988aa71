/** `inspect` of a device or LUN file that carries a volume: the volume in short, or some of its blocks in full. */
import { VimgError } from '../base/errors.ts';
import { hexdump } from '../binary/hexdump.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { InspectedStructure } from '../image/format-driver.ts';
import { throwIfCancelled } from '../job/job.ts';
import { vimsDriver } from '../storage/vims-driver.ts';
import type { InspectedBlock } from '../storage/volume.ts';
import { usage } from './command-line.ts';
import { structureText } from './text/structure-text.ts';
import type { Context } from './verb.ts';

/** The name of the format for `-f`: no driver of disks has it. */
export const VOLUME_FORMAT = 'vims';

/** Block addresses as `--block` takes them. @throws VimgError `USAGE` */
export function blockAddresses(texts: readonly string[]): number[] {
  return texts.map((text) => {
    const address = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(address)) return address;
    throw usage(`Expecting the address of a block, not '${text}'`);
  });
}

/** @param blocks addresses of the blocks to show; without any, what the device says of itself */
export async function inspectVolume(
  context: Context,
  device: BlockDevice,
  blocks: readonly number[],
  json: boolean,
): Promise<void> {
  const found: InspectedStructure[] = [];
  const show = (structure: InspectedStructure, rest: string): void => {
    throwIfCancelled(context.signal);
    if (json) found.push(structure);
    else context.terminal.write(structureText(structure) + rest);
  };
  if (blocks.length === 0) for await (const structure of vimsDriver.inspect(device)) show(structure, '');
  for (const address of blocks) {
    const block = await vimsDriver.inspectBlock(device, address);
    show(block, restText(block));
  }
  if (json)
    context.terminal.json({
      filename: device.name,
      format: VOLUME_FORMAT,
      size: device.size,
      structures: found,
    });
}

function restText({ rest, offset, length }: InspectedBlock): string {
  return rest.length === 0 ? '' : `${hexdump(rest, offset + length - rest.length)}\n\n`;
}

/** @throws VimgError `USAGE` for a file that is no part of a volume */
export function refuseBlocks(blocks: readonly number[], path: string): void {
  if (blocks.length === 0) return;
  throw new VimgError('USAGE', `Could not inspect '${path}': --block is for volumes`, {
    hint: 'if it is a device of a damaged one: -f vims',
  });
}
