/** Opening VVD files for the operations on whole files. */
import { VimgError } from '../../src/base/errors.ts';
import type { DiskFile } from '../../src/device/file-system.ts';
import { fileIdentity, openFile, realPath } from '../../src/device/files.ts';
import { isFlatPath } from '../../src/device/mounts.ts';
import { closedGate } from '../../src/image/gate-policies.ts';
import type { VvdLayer } from './layer.ts';
import { openVvd, type VvdOpenOptions } from './open.ts';
import { settleSnapshot } from './snapshot-settle.ts';

/** The file itself, with symbolic links followed: snapshots lie beside it, not beside a link. */
export function realDisk(path: string): Promise<string> {
  return realPath(path);
}

/** The files of these paths, each once, whatever names lead to it. */
export async function distinctDisks(paths: readonly string[]): Promise<string[]> {
  const found = new Map<string, string>();
  for (const path of paths) {
    const disk = await realDisk(path);
    const identity = (await fileIdentity(disk))?.identity ?? disk;
    if (!found.has(identity)) found.set(identity, disk);
  }
  return [...found.values()];
}

/**
 * Layers lie beside the disk, under names of their own.
 *
 * @throws VimgError `UNSUPPORTED` for a disk that has no folder around it, as in an export of an NBD server
 */
export function refuseWithoutFolder(path: string, op: string): void {
  if (!isFlatPath(path)) return;
  throw new VimgError('UNSUPPORTED', 'There is no folder around it for layers', {
    op,
    path,
    hint: 'do that where the disk lies: for an export of an NBD server, at that server',
  });
}

/** A VVD file open and locked for a change of the whole file. */
export interface OpenVvdFile {
  readonly path: string;
  readonly file: DiskFile;
  readonly layer: VvdLayer;
  /** How `file` was opened. */
  readonly blocking?: boolean;
}

/**
 * Opens a VVD file with the write lock, after settling what a crash left.
 *
 * @throws VimgError `LOCKED`, `INVALID_FORMAT`, `CORRUPT`, `READ_ONLY` for a sealed layer unless allowed
 */
export async function openForChange(
  path: string,
  options: Partial<VvdOpenOptions> = {},
): Promise<OpenVvdFile> {
  for (;;) {
    const file = await openFile(path, { readOnly: false, lock: 'write' });
    try {
      if (await settleSnapshot(file, path)) {
        await file.close();
        continue;
      }
      const layer = await openVvd(file, { readOnly: false, gate: closedGate, ...options });
      return { path, file, layer };
    } catch (error) {
      await file.close();
      throw error;
    }
  }
}
