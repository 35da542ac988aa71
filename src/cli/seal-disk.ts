/** Sealing a disk with progress: for `seal`, and for `convert --seal`. */
import { ProgressMeter } from '../job/progress.ts';
import { lifecycleDisk } from './lifecycle-disk.ts';
import { type ProgressOptions, progressDisplay } from './progress-display.ts';
import type { Context } from './verb.ts';

/** Seals the disk that a name means. @throws VimgError `UNSUPPORTED` for a format that cannot be sealed */
export async function sealDisk(context: Context, name: string, options: ProgressOptions): Promise<void> {
  const { path, lifecycle } = await lifecycleDisk(name, undefined, 'seal');
  await withProgress(context, options, (onProgress) =>
    lifecycle.seal(path, { signal: context.signal, onProgress }),
  );
}

/** Runs work that tells bytes done and bytes in all, and shows its progress. */
export async function withProgress<T>(
  context: Context,
  options: ProgressOptions,
  work: (onProgress: (done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  const display = await progressDisplay(context, options);
  const meter = new ProgressMeter(display.onProgress);
  let told = -1;
  let counted = 0;
  try {
    return await work((done, total) => {
      if (total !== told) meter.phase('copying', total);
      told = total;
      meter.add(done - counted);
      counted = done;
    });
  } finally {
    display.stop();
  }
}
