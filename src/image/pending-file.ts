/**
 * A file that is being made. It is written under a temporary name in the folder of its target and takes the target's
 * name in one step when it is complete; a reader sees the old file or the whole new one, never a part.
 *
 * When the process exits before that (also by a second Ctrl-C), the temporary file is removed. Only a kill -9 or a
 * power cut leaves one behind; its name tells what it belongs to.
 */
import { fromSystemError } from '../base/errors.ts';
import { folderOf } from '../device/file-path.ts';
import type { FileStatus } from '../device/file-system.ts';
import {
  fileExists,
  fileStatus,
  openFile,
  realPath,
  removeFile,
  renameFile,
  syncFolder,
  temporaryPath,
} from '../device/files.ts';
import { filesOf } from '../device/mounts.ts';

const pending = new Set<string>();

/** The exit hook: no time for anything asynchronous. */
function removeAll(): void {
  for (const path of pending) filesOf(path).removeAtExit?.(path);
}

export class PendingFile {
  /** Where the content is written until it is complete. Does not exist yet. */
  readonly path: string;
  /** A symbolic link stays one: this is what it leads to. */
  readonly target: string;
  readonly #old: FileStatus | undefined;

  private constructor(target: string, old: FileStatus | undefined) {
    this.target = target;
    this.#old = old;
    this.path = temporaryPath(target);
    if (pending.size === 0) process.on('exit', removeAll);
    pending.add(this.path);
  }

  /** @throws VimgError when the target's folder cannot be looked at */
  static async begin(target: string): Promise<PendingFile> {
    try {
      const old = await fileStatus(target);
      return new PendingFile(old === undefined ? target : await realPath(target), old);
    } catch (error) {
      throw fromSystemError(error, { op: 'create', path: target });
    }
  }

  /**
   * Gives the complete file its name, replacing what has it; mode and owner of an old file stay.
   *
   * @param durable content and name survive a power cut once this resolved
   * @throws VimgError from the file system
   */
  async commit(durable: boolean): Promise<void> {
    try {
      if (durable) await syncFile(this.path);
      if (this.#old !== undefined) await filesOf(this.path).keepOwner(this.path, this.#old);
      await renameFile(this.path, this.target);
      this.#forget();
      if (durable) await syncFolder(folderOf(this.target));
    } catch (error) {
      throw fromSystemError(error, { op: 'put the finished file in place as', path: this.target });
    }
  }

  /** Removes the file, when it is there. Safe after `commit`. */
  async abandon(): Promise<void> {
    if (!pending.has(this.path)) return;
    if (await fileExists(this.path)) await removeFile(this.path);
    this.#forget();
  }

  #forget(): void {
    pending.delete(this.path);
    if (pending.size === 0) process.off('exit', removeAll);
  }
}

/** Makes a closed file durable: what was written as it was closed, too. */
async function syncFile(path: string): Promise<void> {
  const file = await openFile(path);
  try {
    await file.flush();
  } finally {
    await file.close();
  }
}
