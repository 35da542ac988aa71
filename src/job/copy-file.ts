/** Copying a file as it is, whatever it holds: holes stay holes, and the copy gets its name when it is complete. */
import { isVimgError } from '../base/errors.ts';
import { folderOf } from '../device/file-path.ts';
import { copyInPlace, openFile } from '../device/files.ts';
import { PendingFile } from '../image/pending-file.ts';
import type { FormatRegistry } from '../image/registry.ts';
import { keepParent } from '../image/whole-file.ts';
import { copyDevice } from './copy.ts';
import { countDataBytes } from './device-ranges.ts';
import { type JobOptions, throwIfCancelled } from './job.ts';
import { ProgressMeter } from './progress.ts';

const SPARSE_SIZE = 4096;
const PARALLEL = 4;

/**
 * Copies a file to another name, also from one place to another. An older file of that name is replaced at the end, in
 * one step; whatever fails before leaves nothing. Durable when this returns.
 *
 * @returns bytes of data that were copied; 0 where the place lets both have the same data until one is written
 * @throws VimgError `NOT_FOUND`; `LOCKED` when the source is being written, or the old target is in use; `NO_SPACE`,
 *   `CANCELLED`, `IO`
 */
export async function copyFile(
  from: string,
  to: string,
  options: JobOptions & { readonly formats: FormatRegistry },
): Promise<number> {
  const source = await openFile(from, { readOnly: true, lock: 'read' });
  try {
    const meter = new ProgressMeter(options.onProgress);
    meter.phase('mapping');
    const cancel = (): void => throwIfCancelled(options.signal);
    meter.phase('copying', meter.active ? await countDataBytes(source, cancel) : source.size);
    const pending = await PendingFile.begin(to);
    try {
      if (await copyInPlace(from, pending.path)) {
        await finish(from, pending, options.formats);
        meter.phase('done');
        return 0;
      }
      const target = await openFile(pending.path, { create: 'exclusive', lock: 'write' });
      let copied: number;
      try {
        await target.resize(source.size);
        copied = await copyDevice(
          source,
          {
            unit: 1,
            blank: true,
            write: (offset, data) => target.pwrite(data, offset),
            writeZeroes: (offset, length) => target.writeZeroes(offset, length),
          },
          {
            meter,
            signal: options.signal,
            sparseSize: SPARSE_SIZE,
            compress: false,
            parallel: PARALLEL,
            unordered: false,
          },
        );
        meter.phase('flushing');
        await target.flush();
      } finally {
        await target.close();
      }
      await finish(from, pending, options.formats);
      meter.phase('done');
      return copied;
    } catch (error) {
      throw isVimgError(error) && error.path === pending.path ? error.about(to) : error;
    } finally {
      await pending.abandon();
    }
  } finally {
    await source.close();
  }
}

/** The copy is complete: it finds its parent from where it will be, and gets its name. */
async function finish(from: string, pending: PendingFile, formats: FormatRegistry): Promise<void> {
  if (folderOf(from) !== folderOf(pending.target))
    await keepParent(from, pending.path, pending.target, formats);
  await pending.commit(true);
}
