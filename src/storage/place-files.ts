/** The files of a volume as the process that has it attached lets others use them: with locks. */
import type { FileDeviceOptions } from '../device/file-device.ts';
import type { DiskFile, FileSystem } from '../device/file-system.ts';
import type { LockMode } from '../host/file-lock.ts';

/** An open file, and which one it is. */
export interface PlaceFile extends DiskFile {
  readonly identity: string;
}

export interface PlaceFiles extends FileSystem {
  open(path: string, options: FileDeviceOptions): Promise<PlaceFile>;
  /** Takes no lock, but is refused as one would be. @throws VimgError `LOCKED` naming the holder */
  refuseLock(path: string, mode: LockMode): Promise<void>;
  lockHolders(path: string): Promise<readonly number[]>;
}
