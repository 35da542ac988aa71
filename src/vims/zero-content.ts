/** Zeroing, discarding and cutting a file. */
import { growing, tailBefore, waitForTails } from './file-end.ts';
import type { OpenInode } from './open-inode.ts';
import { leaveInode } from './write-parts.ts';
import { freeBehind, type ZeroMode, zeroRange } from './zero-range.ts';

/** Makes a range of the file read as zeroes. @throws VimgError `NO_SPACE` (with `keep`, and where it is shared), `IO` */
export function zeroContent(inode: OpenInode, offset: number, length: number, mode: ZeroMode): Promise<void> {
  return whenFree(inode, offset, length, () => zeroNow(inode, offset, length, mode));
}

/** Counts as under way only what need not wait for a copy: that waits for what is under way. */
async function whenFree(
  inode: OpenInode,
  offset: number,
  length: number,
  work: () => Promise<void>,
): Promise<void> {
  for (;;) {
    const before = inode.frozen ?? tailBefore(inode, offset, length);
    if (before === undefined) break;
    await before;
  }
  await inode.writes.track(work());
}

async function zeroNow(inode: OpenInode, offset: number, length: number, mode: ZeroMode): Promise<void> {
  if (inode.inline) {
    await leaveInode(inode);
    await waitForTails(inode, offset, length);
  }
  const end = offset + length;
  if (end > inode.size) {
    await growing(inode, offset, end, () => zeroRange(inode, offset, end, mode));
    return;
  }
  await zeroRange(inode, offset, end, mode);
  inode.changed(end);
}

/** Sets the size. What is cut off goes back to the volume before the file is shorter; what is new reads as zeroes. */
export function resizeContent(inode: OpenInode, size: number): Promise<void> {
  return whenFree(inode, 0, Number.MAX_SAFE_INTEGER, () => resizeNow(inode, size));
}

async function resizeNow(inode: OpenInode, size: number): Promise<void> {
  if (inode.inline) {
    await leaveInode(inode);
    await waitForTails(inode, 0, Number.MAX_SAFE_INTEGER);
  }
  if (size > inode.size) {
    await growing(inode, size, size, () => undefined);
    return;
  }
  await freeBehind(inode, size);
  inode.setSize(size);
}
