/**
 * A file that is being made. It is written under a temporary name in the folder of its target and takes the target's
 * name in one step when it is complete; a reader sees the old file or the whole new one, never a part.
 *
 * When the process exits before that (also by a second Ctrl-C), the temporary file is removed. Only a kill -9 or a
 * power cut leaves one behind; its name tells what it belongs to.
 */
import { chmodSync, chownSync, realpathSync, renameSync, rmSync, type Stats, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fromSystemError } from '../base/errors.ts';
import { syncFolder, temporaryPath } from '../host/atomic-file.ts';

const pending = new Set<string>();

/** The exit hook: no time for anything asynchronous. */
function removeAll(): void {
  for (const path of pending) rmSync(path, { force: true });
}

export class PendingFile {
  /** Where the content is written until it is complete. Does not exist yet. */
  readonly path: string;
  /** A symbolic link stays one: this is what it leads to. */
  readonly target: string;
  readonly #old: Stats | undefined;

  /** @throws VimgError when the target's folder cannot be looked at */
  constructor(target: string) {
    try {
      this.#old = statSync(target, { throwIfNoEntry: false });
      this.target = this.#old === undefined ? target : realpathSync(target);
    } catch (error) {
      throw fromSystemError(error, { op: 'create', path: target });
    }
    this.path = temporaryPath(this.target);
    if (pending.size === 0) process.on('exit', removeAll);
    pending.add(this.path);
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
      if (this.#old !== undefined) this.#keepOwner(this.#old);
      renameSync(this.path, this.target);
      this.#forget();
      if (durable) await syncFolder(dirname(this.target));
    } catch (error) {
      throw fromSystemError(error, { op: 'put the finished file in place as', path: this.target });
    }
  }

  /** Removes the file, when it is there. Safe after `commit`. */
  abandon(): void {
    if (!pending.has(this.path)) return;
    rmSync(this.path, { force: true });
    this.#forget();
  }

  #keepOwner(old: Stats): void {
    try {
      chownSync(this.path, old.uid, old.gid);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error; // without privileges it belongs to us
    }
    chmodSync(this.path, old.mode & 0o7777);
  }

  #forget(): void {
    pending.delete(this.path);
    if (pending.size === 0) process.off('exit', removeAll);
  }
}

/** Makes a closed file durable: what was written as it was closed, too. */
async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
