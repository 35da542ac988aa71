/** Writing a file. It grows to hold what is written. */
import { isPromise, type MaybePromise } from '../base/maybe-promise.ts';
import { growing, tailBefore, waitForTails } from './file-end.ts';
import type { OpenInode } from './open-inode.ts';
import { leaveInode, writeParts } from './write-parts.ts';

/** Writes `buffer` at `offset`; the file grows to hold it. @throws VimgError `NO_SPACE`, `IO` */
export function writeContent(inode: OpenInode, buffer: Uint8Array, offset: number): MaybePromise<void> {
  if (buffer.length === 0) return;
  // who waits for the file to thaw is not under way: the copy waits for that
  const before = inode.frozen ?? tailBefore(inode, offset, buffer.length);
  if (before !== undefined) return before.then(() => writeContent(inode, buffer, offset));
  const end = offset + buffer.length;
  if (inode.inline) return inode.writes.track(writeInline(inode, buffer, offset));
  if (end > inode.size) return inode.writes.track(writeBehind(inode, buffer, offset));
  const writing = writeParts(inode, buffer, offset);
  if (isPromise(writing)) return inode.writes.track(writing.then(() => inode.changed(end)));
  inode.changed(end);
}

async function writeInline(inode: OpenInode, buffer: Uint8Array, offset: number): Promise<void> {
  await leaveInode(inode);
  await waitForTails(inode, offset, buffer.length);
  await writeBehind(inode, buffer, offset);
}

function writeBehind(inode: OpenInode, buffer: Uint8Array, offset: number): Promise<void> {
  return growing(inode, offset, offset + buffer.length, async () => writeParts(inode, buffer, offset));
}
