/** `vimg info`: what a disk is. Opens the file alone, without a lock; `--backing-chain` also what stands behind it. */

import { formats } from '../../../formats/index.ts';
import { imageInfo, layerInfo } from '../../job/image-info.ts';
import { usage, wantsJson } from '../command-line.ts';
import { diskReference } from '../disk-reference.ts';
import { type AccessOptions, accessOf, openDisk } from '../open-disk.ts';
import { infoText } from '../text/info-text.ts';
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
  readonly backingChain?: boolean;
}

export const verb: Verb = defineVerb<Options>({
  name: 'info',
  summary: 'show what a disk is',
  operands: 'DISK',
  examples: ['info disk.vvd', 'info --output=json disk.qcow2', 'info --backing-chain clone.vvd'],
  options: [
    ['-f, --format <format>', 'format of the disk; without it, its content tells'],
    OUTPUT_OPTION,
    ['--backing-chain', 'show the layers behind the disk too'],
    FORCE_SHARE_OPTION,
    ALLOW_OPTION,
    ['--image-opts', 'not supported'],
    QEMU_OBJECT_OPTION,
  ],
  async run(context, operands, options) {
    const [name] = operands;
    if (name === undefined || operands.length > 1) throw usage('Expecting one image file name');
    const json = wantsJson(options.output);
    const access = { ...accessOf(context, options, operands), lock: false };
    const disk = await openDisk(context, name, access, {
      format: options.format,
      infoOnly: true,
      backing: options.backingChain === true || (await diskReference(name)).snapshot !== undefined,
    });
    try {
      const infos = [await imageInfo(disk, name)];
      if (options.backingChain) {
        for (const layer of disk.layers.slice(1))
          infos.push(await layerInfo(layer, shownPath(layer.file.name, name)));
      }
      if (json) context.terminal.json(options.backingChain ? infos : infos[0]);
      else context.terminal.write(infos.map(infoText).join('\n'));
      if (!json)
        for (const { warnings = [] } of infos)
          for (const text of warnings) context.terminal.note(`warning: ${text}`);
      if (!json && disk.probed && !context.likeQemuImg && formats.forEnding(disk.path)?.name !== 'raw') {
        context.terminal.note('no format claims the content: raw is a guess');
      }
    } finally {
      await disk.close();
    }
    return 0;
  },
});
