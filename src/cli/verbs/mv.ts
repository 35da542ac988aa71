/** `vimg mv`: another name in the same datastore. */
import { formats } from '../../../formats/index.ts';
import { joinPath, nameOf } from '../../device/file-path.ts';
import { fileStatus } from '../../device/files.ts';
import { moveFile } from '../../image/whole-file.ts';
import { usage } from '../command-line.ts';
import { requireDatastorePath } from '../datastores.ts';
import { defineVerb, type Verb } from '../verb.ts';

interface Options {
  readonly force?: boolean;
}

export const verb: Verb = defineVerb<Options>({
  name: 'mv',
  summary: 'rename a file in a datastore',
  operands: 'DATASTORE:FROM DATASTORE:TO',
  details:
    'It happens at one instant, and takes no time. A disk goes on to find the disk that it stands on. Refused while ' +
    'someone uses the file, and while other disks are known to stand on it.',
  examples: ['mv ds1:vm1/root.vvd ds1:vm1/system.vvd', 'mv ds1:new.vvd ds1:vm1'],
  options: [['--force', 'also a disk that others stand on; `vimg chain relocate` makes them find it again']],
  async run(_context, operands, options) {
    if (operands.length !== 2) throw usage('Expecting the file, and its new name');
    const from = await requireDatastorePath(operands[0]);
    const target = await requireDatastorePath(operands[1]);
    const inFolder = (await fileStatus(target))?.kind === 'folder';
    const to = inFolder ? joinPath(target, nameOf(from)) : target;
    await moveFile(from, to, { formats, force: options.force ?? false });
    return 0;
  },
});
