/**
 * A place where disk files live: the host's file system, a datastore.
 *
 * What a disk format and the tool need of one, and no more: files as devices, and changes of names that each happen
 * at one instant. Paths are given whole, as the user writes them. A change of names is durable once `syncFolder` of
 * its folder resolved, or by itself where the place works so; after a crash before that it happened or did not.
 */
import type { BlockDevice } from './block-device.ts';
import type { FileDeviceOptions } from './file-device.ts';

/** An open file of a place. */
export interface DiskFile extends BlockDevice {
  /** For messages, and for finding what lies beside it. Set by who gives an open file another name. */
  name: string;
  /** Whether a lock is held that everyone who uses this place respects. */
  readonly locked: boolean;
  /** Takes another lock instead of the one held; a refusal leaves that in place. @throws VimgError `LOCKED` */
  changeLock(mode: 'none' | 'read' | 'write'): Promise<void>;
}

/** Which file a name means, symbolic links followed. */
export interface FileIdentity {
  /** `device` is a block device; `other` can be no disk. */
  readonly kind: 'file' | 'folder' | 'device' | 'other';
  /** The same text for the same file, under whatever name; another for every other file, also of other places. */
  readonly identity: string;
}

/** What a name stands for, symbolic links followed. */
export interface FileStatus extends FileIdentity {
  /** Bytes. */
  readonly size: number;
  /** Bytes of the place's storage that are taken. */
  readonly allocated: number;
  /** Names the file system that the file is on, where the place has several: two may not be there at the same time. */
  readonly volume?: string;
  /**
   * Nanoseconds since 1970 of the last change of the content: another value when the content is another. 0 where nobody
   * can tell.
   */
  readonly modifiedNs: bigint;
  /** Owner and mode, where the place has them. */
  readonly owner?: { readonly uid: number; readonly gid: number; readonly mode: number };
}

export interface FileSystem {
  /** Paths are names of files and no more: there are no folders, and what follows the colon is nobody's to normalise. */
  readonly isFlat?: boolean;
  /** @throws VimgError `NOT_FOUND`, `EXISTS`, `READ_ONLY`, `LOCKED`, `USAGE` for what is no file */
  open(path: string, options: FileDeviceOptions): Promise<DiskFile>;
  /** Undefined when nothing has the name. */
  status(path: string): Promise<FileStatus | undefined>;
  /**
   * For a place where a look at a file has consequences: which file a name means, from the name alone. It may be one that
   * is not there. Places without this are asked for the status.
   */
  identify?(path: string): Promise<FileIdentity | undefined>;
  /** For a place whose files are files of the host: which one a name leads to. Locks are looked for there. */
  hostPath?(path: string): Promise<string | undefined>;
  /** For a place that keeps its locks itself: process IDs of those on this host that hold one on a file. */
  lockHolders?(path: string): Promise<readonly number[] | undefined>;
  /** Names in a folder, in no order. @throws VimgError `NOT_FOUND` */
  list(folder: string): Promise<string[]>;
  /** The name that a file has when no symbolic link is on the way. @throws VimgError `NOT_FOUND` */
  realPath(path: string): Promise<string>;
  /** Gives a file another name, at one instant; what had that name is gone then. @throws VimgError `NOT_FOUND` */
  rename(from: string, to: string): Promise<void>;
  /** Gives a file a second name. @throws VimgError `EXISTS` when the name is taken */
  link(path: string, second: string): Promise<void>;
  /** Removes a name, and the file with its last one. @throws VimgError `NOT_FOUND` */
  remove(path: string): Promise<void>;
  /** @throws VimgError `EXISTS`, `NOT_FOUND` when its folder is missing */
  makeFolder(path: string): Promise<void>;
  /** Removes an empty folder. @throws VimgError `USAGE` when it holds anything, `NOT_FOUND` */
  removeFolder(path: string): Promise<void>;
  /** Makes every change of names in a folder durable. */
  syncFolder(folder: string): Promise<void>;
  /** A file gets the content, or is made with it: after a crash it holds the old or the new; durable. */
  replace(path: string, content: Uint8Array | string): Promise<void>;
  /**
   * Makes a new file with the content of another one that takes no space of its own until one of them is written; where
   * a place can do that. Durable once the new file was flushed.
   *
   * @returns false when it cannot be done with this file, and nothing was
   * @throws VimgError `EXISTS` when the name is taken, `NOT_FOUND`, `NO_SPACE`
   */
  copy?(path: string, target: string): Promise<boolean>;
  /** Gives a new file the owner and the mode of the one that it replaces, as far as the user may. */
  keepOwner(path: string, replaced: FileStatus): Promise<void>;
  /** Removes a file as the process exits, where that can be done without waiting. */
  removeAtExit?(path: string): void;
}
