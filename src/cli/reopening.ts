/** Whether a new disk will open by its name alone, or the gate will ask for `--allow`: said when it is made. */
import { formats } from '../../formats/index.ts';
import { isVimgError, type VimgError } from '../base/errors.ts';
import { DiskImage } from '../image/disk-image.ts';
import { describeError } from './error-report.ts';
import { accessOf } from './open-disk.ts';
import type { Context } from './verb.ts';

/** What a later command that names only this disk would be refused with, if it would. */
export async function reopeningProblem(context: Context, path: string): Promise<VimgError | undefined> {
  const { allow, allowAny } = accessOf(context, {}, [path]);
  try {
    const disk = await DiskImage.open(path, { formats, allow, allowAny, lock: false });
    await disk.close();
  } catch (error) {
    if (!isVimgError(error)) throw error;
    return error;
  }
}

/** Tells it on stderr. */
export async function warnAboutReopening(context: Context, path: string): Promise<void> {
  const problem = await reopeningProblem(context, path);
  if (problem === undefined) return;
  context.terminal.note(`${context.program}: warning: it will not open like this: ${describeError(problem)}`);
  if (problem.hint !== undefined) context.terminal.note(`hint: ${problem.hint}`);
}
