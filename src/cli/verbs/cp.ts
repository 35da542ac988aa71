/** `vimg cp`: a file within a datastore, into one, or out of one. */
import { formats } from '../../../formats/index.ts';
import { VimgError } from '../../base/errors.ts';
import { formatSize } from '../../base/size.ts';
import { joinPath, nameOf } from '../../device/file-path.ts';
import { fileExists, fileStatus, isSameFile } from '../../device/files.ts';
import { copyFile } from '../../job/copy-file.ts';
import { usage } from '../command-line.ts';
import { filePath } from '../disk-reference.ts';
import { type ProgressOptions, progressDisplay } from '../progress-display.ts';
import { type Context, defineVerb, type Verb } from '../verb.ts';

interface Options extends ProgressOptions {
  readonly force?: boolean;
  readonly quiet?: boolean;
}

export const verb: Verb = defineVerb<Options>({
  name: 'cp',
  summary: 'copy a file within, into or out of a datastore',
  operands: 'FILE… TARGET',
  details:
    'Each of them is a host file, or a path in a datastore. The file is copied as it is, holes as holes; a disk that ' +
    'stands on another one goes on to do so (vimg clone --full makes a disk of its own). The copy gets its name when ' +
    'it is complete and durable.',
  examples: [
    'cp installer.iso ds1:iso/',
    'cp ds1:vm1/root.vvd /backup/',
    'cp -p ds1:golden.vvd ds2:golden.vvd',
  ],
  options: [
    ['-f, --force', 'replace a file of that name'],
    ['-p', 'show progress'],
    ['--progress <style>', 'bar, jsonl or none'],
    ['-q, --quiet', 'print only errors'],
  ],
  async run(context, operands, options) {
    const target = operands.at(-1);
    const sources = operands.slice(0, -1);
    if (target === undefined || sources.length === 0) throw usage('Expecting the file, and where it goes');
    const place = await filePath(target);
    const inFolder = (await fileStatus(place))?.kind === 'folder';
    if (!inFolder && (sources.length > 1 || target.endsWith('/'))) throw usage(`'${target}' is no folder`);
    for (const source of sources) {
      const from = await filePath(source);
      await copy(context, from, inFolder ? joinPath(place, nameOf(from)) : place, options);
    }
    return 0;
  },
});

async function copy(context: Context, from: string, to: string, options: Options): Promise<void> {
  if (await isSameFile(from, to))
    throw new VimgError('USAGE', 'They are the same file', { op: 'copy', path: to });
  if (!options.force && (await fileExists(to))) {
    throw new VimgError('EXISTS', 'The file exists already', {
      op: 'copy',
      path: to,
      hint: '-f replaces it, once the copy is complete',
    });
  }
  const display = await progressDisplay(context, options);
  try {
    const bytes = await copyFile(from, to, {
      formats,
      signal: context.signal,
      onProgress: display.onProgress,
    });
    if (!options.quiet) context.terminal.note(`${to}: ${formatSize(bytes)} copied`);
  } finally {
    display.stop();
  }
}
