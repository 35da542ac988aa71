/** `vimg mkdir`: a folder in a datastore. */
import { folderOf } from '../../device/file-path.ts';
import { fileStatus, makeFolder, syncFolder } from '../../device/files.ts';
import { usage } from '../command-line.ts';
import { requireDatastorePath } from '../datastores.ts';
import { defineVerb, type Verb } from '../verb.ts';

interface Options {
  readonly parents?: boolean;
}

export const verb: Verb = defineVerb<Options>({
  name: 'mkdir',
  summary: 'make a folder in a datastore',
  operands: 'DATASTORE:PATH…',
  examples: ['mkdir ds1:vm1', 'mkdir -p ds1:lab/vm1'],
  options: [['-p, --parents', 'make the folders on the way too; one that is there already is no error']],
  async run(_context, operands, options) {
    if (operands.length === 0) throw usage('Expecting a path in a datastore');
    for (const name of operands) await make(await requireDatastorePath(name), options.parents ?? false);
    return 0;
  },
});

async function make(path: string, parents: boolean): Promise<void> {
  const folder = folderOf(path);
  if (parents) {
    if ((await fileStatus(path))?.kind === 'folder') return;
    if (folder !== path) await make(folder, true);
  }
  await makeFolder(path);
  await syncFolder(folder);
}
