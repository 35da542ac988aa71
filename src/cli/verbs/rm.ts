/** `vimg rm`: files and folders of a datastore go. */
import { formats } from '../../../formats/index.ts';
import { VimgError } from '../../base/errors.ts';
import { folderOf, joinPath } from '../../device/file-path.ts';
import { fileStatus, listFolder, removeFolder, syncFolder } from '../../device/files.ts';
import { removeFiles } from '../../image/whole-file.ts';
import { usage } from '../command-line.ts';
import { isRoot, requireDatastorePath } from '../datastores.ts';
import { defineVerb, type Verb } from '../verb.ts';

interface Options {
  readonly recursive?: boolean;
  readonly force?: boolean;
}

export const verb: Verb = defineVerb<Options>({
  name: 'rm',
  summary: 'remove files from a datastore',
  operands: 'DATASTORE:PATH…',
  details:
    'Refused, with nothing removed, while someone uses one of the files, or while a disk that is not removed too is ' +
    'known to stand on it.',
  examples: ['rm ds1:vm1/old.vvd', 'rm -r ds1:vm1'],
  options: [
    ['-r, --recursive', 'folders, with all that is in them'],
    ['--force', 'also disks that others stand on: those cannot be read any more'],
  ],
  async run(_context, operands, options) {
    if (operands.length === 0) throw usage('Expecting a path in a datastore');
    const files: string[] = [];
    const folders: string[] = [];
    for (const name of operands) {
      const path = await requireDatastorePath(name);
      if (isRoot(path)) {
        throw new VimgError('USAGE', 'The root of a datastore cannot be removed', { path });
      }
      await collect(path, files, folders, options.recursive ?? false);
    }
    await removeFiles(files, { formats, force: options.force ?? false });
    for (const folder of folders.reverse()) {
      await removeFolder(folder);
      await syncFolder(folderOf(folder));
    }
    return 0;
  },
});

/** What is to be removed: folders before what is in them. */
async function collect(path: string, files: string[], folders: string[], recursive: boolean): Promise<void> {
  const status = await fileStatus(path);
  if (!status) throw new VimgError('NOT_FOUND', 'No such file or directory', { op: 'remove', path });
  if (status.kind !== 'folder') {
    files.push(path);
    return;
  }
  if (!recursive) {
    throw new VimgError('USAGE', 'It is a folder', {
      op: 'remove',
      path,
      hint: 'with all that is in it: vimg rm -r',
    });
  }
  folders.push(path);
  for (const name of await listFolder(path)) await collect(joinPath(path, name), files, folders, true);
}
