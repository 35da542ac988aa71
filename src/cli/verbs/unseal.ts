/** `vimg unseal`: a sealed disk becomes writable again. */
import { usage } from '../command-line.ts';
import { lifecycleDisk } from '../lifecycle-disk.ts';
import { defineVerb, type Verb } from '../verb.ts';

interface Options {
  readonly force?: boolean;
}

export const verb: Verb = defineVerb<Options>({
  name: 'unseal',
  summary: 'make a sealed disk writable again',
  operands: 'DISK',
  details: 'Refused while clones are known to stand on the disk: writing to it would make all of them stale.',
  examples: ['unseal golden.vvd'],
  options: [['--force', 'do it even so: the clones can never be read again once the disk is written']],
  async run(_context, operands, options) {
    const [name] = operands;
    if (name === undefined || operands.length > 1) throw usage('Expecting one image file name');
    const { path, lifecycle } = await lifecycleDisk(name, undefined, 'unseal');
    await lifecycle.unseal(path, options.force ?? false);
    return 0;
  },
});
