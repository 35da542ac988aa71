/**
 * The end of a file while it moves.
 *
 * Writes behind the end may be under way at the same time, in any order. `issuedEnd` is where the furthest of them ends;
 * `size` follows when they succeed. What a file grows over without writing it is zeroed first: a cut leaves bytes behind
 * the end, and so does a write that failed, or that a crash came before. Whoever writes there meanwhile waits.
 *
 * Invariant: while nothing is growing, `issuedEnd` is the size.
 */
import type { OpenInode } from './open-inode.ts';
import { freeBehind, zeroRange } from './zero-range.ts';

/** What a change of a range has to wait for: a tail that is being zeroed there. */
export function tailBefore(inode: OpenInode, offset: number, length: number): Promise<void> | undefined {
  if (inode.tails.size === 0) return undefined;
  for (const tail of inode.tails) {
    if (offset < tail.end && tail.start < offset + length) return tail.done;
  }
  return undefined;
}

/** Waits for every tail that a change of a range has to wait for. */
export async function waitForTails(inode: OpenInode, offset: number, length: number): Promise<void> {
  for (let before = tailBefore(inode, offset, length); before; before = tailBefore(inode, offset, length)) {
    await before;
  }
}

/**
 * Does what lets a file reach to `end` at least, once it succeeded; what lies between the end of the file and `offset`
 * is zeroed. In the tick of the call other changes see that the file is about to end there. When it fails, space behind
 * the end is given back.
 *
 * The file never reaches over what others below have not done yet: a flush would make its size durable without that,
 * and a crash show what lay behind the end. When one of them fails, so do those behind it.
 */
export async function growing(
  inode: OpenInode,
  offset: number,
  end: number,
  work: () => Promise<void> | void,
): Promise<void> {
  const start = inode.issuedEnd;
  inode.growing++;
  inode.issuedEnd = Math.max(start, end);
  const done = growTo(inode, { start, offset, end }, work);
  if (end > start) inode.growths.add({ start, done });
  try {
    await done;
  } catch (error) {
    inode.untidy = true;
    throw error;
  } finally {
    inode.growing--;
    if (inode.growing === 0) {
      inode.issuedEnd = inode.size;
      inode.growths.clear();
      if (inode.untidy) await tidy(inode);
    }
  }
}

/** @param range where the file ended, and what is going to be changed */
async function growTo(
  inode: OpenInode,
  range: { readonly start: number; readonly offset: number; readonly end: number },
  work: () => Promise<void> | void,
): Promise<void> {
  const { start, offset, end } = range;
  if (offset > start) await whileTail(inode, start, offset, zeroRange(inode, start, offset, 'free'));
  await work();
  for (const other of [...inode.growths]) if (other.start < Math.min(start, end)) await other.done;
  inode.changed(end);
}

async function whileTail(
  inode: OpenInode,
  start: number,
  end: number,
  zeroing: Promise<void>,
): Promise<void> {
  const ended = (): void => undefined;
  const tail = { start, end, done: zeroing.then(ended, ended) };
  inode.tails.add(tail);
  try {
    await zeroing;
  } finally {
    inode.tails.delete(tail);
  }
}

async function tidy(inode: OpenInode): Promise<void> {
  inode.untidy = false;
  await whileTail(inode, inode.size, Number.MAX_SAFE_INTEGER, freeBehind(inode, inode.size)).catch(() => {
    inode.untidy = true; // the next one that grows the file zeroes what it needs, and tries again
  });
}
